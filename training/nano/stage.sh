# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh disable=SC2154
#
# One stage of training, for the scripts that train small models; they set out, here, python, precision and seed.

# For a few hundred tokens on a CPU, plain matrix products are faster than torch's own choice of attention.
export DIFFUSERS_ATTN_BACKEND="${DIFFUSERS_ATTN_BACKEND:-_native_math}"

# A stage that is done leaves its transformer; one that was interrupted goes on from its last checkpoint.
stage() {
    name=$1 config=$2 steps=$3
    shift 3
    [ -d "$out/$name/transformer" ] && return
    resume=
    ls -d "$out/$name"/checkpoint-* >/dev/null 2>&1 && resume="--resume_from_checkpoint latest"
    # shellcheck disable=SC2086
    $python "$here/../train.py" --config "$here/../configs/$config.yaml" --model "$out/base" \
        --output_dir "$out/$name" --max_train_steps "$steps" --mixed_precision "$precision" --seed "$seed" $resume "$@"
}
