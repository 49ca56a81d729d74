# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh disable=SC2154
#
# What the scripts that train small models share: settings, and one stage of training. They set out and here before, and
# where it is not as here, the model to start from, the program, and the folder that a stage leaves when it is done.
python=${PYTHON:-python} precision=${MIXED_PRECISION:-no} seed=${SEED:-0}
model=$out/base program=$here/../train.py result=transformer

# For a few hundred tokens on a CPU, plain matrix products are faster than torch's own choice of attention.
export DIFFUSERS_ATTN_BACKEND="${DIFFUSERS_ATTN_BACKEND:-_native_math}"

# A stage that is done leaves its result; one that was interrupted goes on from its last checkpoint.
stage() {
    name=$1 config=$2 steps=$3
    shift 3
    [ -d "$out/$name/$result" ] && return
    resume=
    ls -d "$out/$name"/checkpoint-* >/dev/null 2>&1 && resume="--resume_from_checkpoint latest"
    # shellcheck disable=SC2086
    $python "$program" --config "$here/../configs/$config.yaml" --model "$model" \
        --output_dir "$out/$name" --max_train_steps "$steps" --mixed_precision "$precision" --seed "$seed" $resume "$@"
}
