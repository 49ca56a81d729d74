#!/bin/sh
# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
#
# Train jova-nano from nothing: corpus, components, both stages, report, pipeline folder.
#
#     training/nano/train.sh outputs/nano
#
# Needs flite, and the extras train, faces and eval. Interrupt it when you like: the same command goes on where it was.
# About three hours on two cores; with a GPU, pass MIXED_PRECISION=bf16.
set -eu

out=${1:?name a folder: training/nano/train.sh outputs/nano}
here=$(dirname "$0")
python=${PYTHON:-python}
precision=${MIXED_PRECISION:-no}
seed=${SEED:-0}
video_steps=${VIDEO_STEPS:-1000} audio_steps=${AUDIO_STEPS:-1800} joint_steps=${JOINT_STEPS:-1100}
mkdir -p "$out"

# A stage that is done leaves its transformer; one that was interrupted goes on from its last checkpoint.
stage() {
    name=$1 steps=$2
    shift 2
    [ -d "$out/$name/transformer" ] && return
    resume=
    ls -d "$out/$name"/checkpoint-* >/dev/null 2>&1 && resume="--resume_from_checkpoint latest"
    # shellcheck disable=SC2086
    $python "$here/../train.py" --config "$here/../configs/nano.yaml" --model "$out/base" --cache_dir "$out/cache" \
        --output_dir "$out/$name" --max_train_steps "$steps" --mixed_precision "$precision" --seed "$seed" $resume "$@"
}

[ -f "$out/corpus/held_out/metadata.jsonl" ] || $python "$here/make_corpus.py" --output_dir "$out/corpus" --seed "$seed"
$python "$here/train_components.py" --corpus "$out/corpus" --output_dir "$out/base" --seed "$seed" \
    --mixed_precision "$precision"
[ -f "$out/cache/index.jsonl" ] || $python "$here/../preprocess.py" --data "$out/corpus/train" --model "$out/base" \
    --output_dir "$out/cache" --detect_every 10 --no_line_dropout_variants --num_workers 2

stage video "$video_steps" --branch video --train_batch_size 16
stage audio "$audio_steps" --branch audio --train_batch_size 32 \
    --init_audio_from_video --video_transformer "$out/video"
stage joint "$joint_steps" --branch joint --train_batch_size 24 --learning_rate 5e-4 --lr_scheduler cosine \
    --video_transformer "$out/video" --audio_transformer "$out/audio"

$python "$here/pack.py" --base "$out/base" --transformer "$out/joint/transformer" --output_dir "$out/jova-nano"
$python "$here/report.py" --model "$out/jova-nano" --output_dir "$out/report" --seed "$seed"
