#!/bin/sh
# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
#
# Train jova-nano from nothing: corpus, components, both stages, report, pipeline folder.
#
#     training/nano/train.sh outputs/nano
#     VAES=checkpoints/jova-nano training/nano/train.sh outputs/nano      with VAEs that are trained already
#     QUICK=1 training/nano/train.sh outputs/try                          all of it, with next to no training
#
# Needs flite, and the extras train, faces and eval. Interrupt it when you like: the same command goes on where it was.
# About three and a half hours on two cores with MIXED_PRECISION=bf16, less with VAES; see docs/nano.md.
set -eu

out=${1:?name a folder: training/nano/train.sh outputs/nano}
here=$(dirname "$0")
video_steps=${VIDEO_STEPS:-800} audio_steps=${AUDIO_STEPS:-8000} joint_steps=${JOINT_STEPS:-3200}
tasks_steps=${TASKS_STEPS:-1250}
corpus_args='' component_args='' pack_args='' report_args=''
if [ -n "${QUICK:-}" ]; then
    video_steps=2 audio_steps=2 joint_steps=2 tasks_steps=2
    corpus_args='--num_train 16 --num_held_out 1'
    component_args='--text_steps 2 --video_vae_steps 2 --audio_vae_steps 2'
    pack_args='--num_clips 2'
    report_args='--num_clips 2 --num_pictured 2 --num_given 2 --steps 1 2 --num_inference_steps 2'
fi
mkdir -p "$out"

. "$here/stage.sh"

# shellcheck disable=SC2086
[ -f "$out/corpus/held_out/metadata.jsonl" ] ||
    $python "$here/make_corpus.py" --output_dir "$out/corpus" --seed "$seed" $corpus_args
for part in vae audio_vae; do
    if [ -n "${VAES:-}" ] && [ ! -d "$out/base/$part" ]; then
        mkdir -p "$out/base"
        rm -rf "$out/base/.$part.partial"
        cp -r "$VAES/$part" "$out/base/.$part.partial"
        mv "$out/base/.$part.partial" "$out/base/$part" # whole or not at all: a folder that is there is kept
    fi
done
# shellcheck disable=SC2086
$python "$here/train_components.py" --corpus "$out/corpus" --output_dir "$out/base" --seed "$seed" \
    --mixed_precision "$precision" $component_args
[ -f "$out/cache/index.jsonl" ] || $python "$here/../preprocess.py" --data "$out/corpus/train" --model "$out/base" \
    --output_dir "$out/cache" --detect_every 10 --no_line_dropout_variants --num_workers 2

stage video nano "$video_steps" --cache_dir "$out/cache" --branch video
stage audio nano "$audio_steps" --cache_dir "$out/cache" --branch audio --init_audio_from_video \
    --video_transformer "$out/video"
stage joint nano "$joint_steps" --cache_dir "$out/cache" --branch joint --lr_scheduler cosine \
    --video_transformer "$out/video" --audio_transformer "$out/audio"
stage tasks nano_tasks "$tasks_steps" --cache_dir "$out/cache" \
    --video_transformer "$out/joint" --audio_transformer "$out/joint"

# shellcheck disable=SC2086
$python "$here/pack.py" --base "$out/base" --transformer "$out/tasks/transformer" --output_dir "$out/jova-nano" $pack_args
# shellcheck disable=SC2086
$python "$here/report.py" --model "$out/jova-nano" --output_dir "$out/report" --seed "$seed" $report_args
