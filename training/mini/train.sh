#!/bin/sh
# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
#
# Train jova-mini from nothing: corpus, components, all stages, pipeline folder, report.
#
#     training/mini/train.sh outputs/mini
#     QUICK=1 training/mini/train.sh outputs/try      all of it, with next to no training
#     MAKE_ONLY=1 training/mini/train.sh outputs/mini  what needs no card: corpus, components and cache, then stop
#
# Needs the extras mini, train, faces and eval, and what docs/mini.md fetches. Interrupt it when you like: the same
# command goes on where it was. Hours on two cores with MIXED_PRECISION=bf16; docs/mini.md says how many.
set -eu

out=${1:?name a folder: training/mini/train.sh outputs/mini}
here=$(dirname "$0")
num_train=${NUM_TRAIN:-6000} num_held_out=${NUM_HELD_OUT:-300} num_speech=${NUM_SPEECH:-7000}
words_steps=${WORDS_STEPS:-4000} audio_steps=${AUDIO_STEPS:-12000} video_steps=${VIDEO_STEPS:-1500} joint_steps=${JOINT_STEPS:-28000}
component_args='' pack_args='' report_args=''
if [ -n "${QUICK:-}" ]; then
    num_train=8 num_held_out=2 num_speech=8
    words_steps=2 audio_steps=2 video_steps=2 joint_steps=2
    component_args='--text_steps 2 --video_vae_steps 2 --audio_vae_steps 2'
    pack_args='--num_clips 2'
    report_args='--num_clips 2 --num_pictured 2 --num_given 2 --num_voiced 1 --steps 1 2 --num_inference_steps 2'
fi
mkdir -p "$out"
. "$here/../nano/stage.sh"

# Rows of clips that are there are kept, so this takes a moment once the corpus is whole.
$python "$here/make_corpus.py" --output_dir "$out/corpus" --seed "$seed" \
    --num_train "$num_train" --num_held_out "$num_held_out" --num_speech "$num_speech"
# shellcheck disable=SC2086
$python "$here/../nano/train_components.py" --recipe mini --corpus "$out/corpus" --output_dir "$out/base" \
    --seed "$seed" --mixed_precision "$precision" $component_args
for split in speech joint; do
    $python "$here/../preprocess.py" --data "$out/corpus/$split" --model "$out/base" --output_dir "$out/cache-$split" \
        --detect_every 5 --no_line_dropout_variants --num_workers 2
done
[ -z "${MAKE_ONLY:-}" ] || exit 0

# The paper's stages: audio alone, first where it begins at once, then where it begins anywhere; the video branch; both,
# with the mouth loss and with tasks, beside audio alone.
stage words mini "$words_steps" --cache_dir "$out/cache-speech" --branch audio
stage audio mini "$audio_steps" --cache_dir "$out/cache-joint" --branch audio --audio_transformer "$out/words"
export DIFFUSERS_ATTN_BACKEND=native  # which is the quicker one for the 700 tokens of a clip
stage video mini "$video_steps" --cache_dir "$out/cache-joint" --branch video
stage joint mini_joint "$joint_steps" --cache_dir "$out/cache-joint" \
    --video_transformer "$out/video" --audio_transformer "$out/audio"

# shellcheck disable=SC2086
$python "$here/../nano/pack.py" --recipe mini --base "$out/base" --transformer "$out/joint/transformer" \
    --output_dir "$out/jova-mini" $pack_args
# shellcheck disable=SC2086
$python "$here/report.py" --model "$out/jova-mini" --corpus "$out/corpus" --output_dir "$out/report" $report_args
