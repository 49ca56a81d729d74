#!/bin/sh
# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
#
# From a Wan to a talking model, the whole road at nano scale: a small Wan, trained here on silent clips since no public
# one is small; `convert-wan`; stage 1, audio; stage 2, both with the mouth loss; a report after each stage.
#
#     training/nano/wan_road.sh outputs/road
#     BASE=outputs/nano/jova-nano training/nano/wan_road.sh outputs/road    with VAEs and text encoder of your own
#     QUICK=1 training/nano/wan_road.sh outputs/try                         all of it, with next to no training
#
# Needs flite, and the extras train, faces and eval. Interrupt it when you like: the same command goes on where it was.
# CORPUS and CACHE name folders that are there already, WAN_ARGS more settings of the Wan's training (train_wan.py).
# docs/wan_road.md says what came of it.
set -eu

out=${1:?name a folder: training/nano/wan_road.sh outputs/road}
here=$(dirname "$0")
base=${BASE:-$here/../../checkpoints/jova-nano}
corpus=${CORPUS:-$out/corpus} cache=${CACHE:-$out/cache}
wan_steps=${WAN_STEPS:-800} audio_steps=${AUDIO_STEPS:-8000} joint_steps=${JOINT_STEPS:-3200}
corpus_args='' train_args='' pack_args='' report_args=''
if [ -n "${QUICK:-}" ]; then
    wan_steps=2 audio_steps=2 joint_steps=2
    corpus_args='--num_train 16 --num_held_out 1' train_args='--train_batch_size 2'
    pack_args='--num_clips 2' report_args='--num_clips 2 --num_inference_steps 2'
fi
mkdir -p "$out"
. "$here/stage.sh"

# 1. Clips, and what a Wan with jova-nano's VAEs and its first text encoder reads of them
[ -d "$out/parts" ] || $python -m diffusers_jova assemble --transformer "$base" --vae "$base" --text_encoder "$base" \
    --tokenizer "$base" --scheduler "$base" --audio_vae "$base" --vocoder "$base" --output "$out/parts"
if [ ! -f "$cache/index.jsonl" ]; then
    # shellcheck disable=SC2086
    [ -f "$corpus/held_out/metadata.jsonl" ] ||
        $python "$here/make_corpus.py" --output_dir "$corpus" --seed "$seed" $corpus_args
    $python "$here/../preprocess.py" --data "$corpus/train" --model "$out/parts" --output_dir "$cache" \
        --detect_every 10 --no_line_dropout_variants --num_workers 2
fi

# 2. The base: diffusers' WanTransformer3DModel on video alone, as the folder of a WanPipeline
model=$out/parts program=$here/train_wan.py result=pipeline
# shellcheck disable=SC2086
stage wan nano "$wan_steps" --cache_dir "$cache" --branch video $train_args ${WAN_ARGS:-}

# 3. A JoVA that stands on it, and the two stages
[ -d "$out/start" ] || $python "$here/../../conversion/convert_wan.py" --to jova --input "$out/wan/pipeline" \
    --output "$out/start" --audio_mode 16k --audio_vae "$out/parts" --vocoder "$out/parts"
model=$out/start program=$here/../train.py result=transformer
# shellcheck disable=SC2086
stage audio nano "$audio_steps" --cache_dir "$cache" --branch audio $train_args
# shellcheck disable=SC2086
stage joint nano "$joint_steps" --cache_dir "$cache" --branch joint --lr_scheduler cosine \
    --audio_transformer "$out/audio" $train_args

# 4. What came of it: a pipeline of jova-nano's settings and labelled prompts, and numbers
# shellcheck disable=SC2086
$python "$here/pack.py" --base "$out/start" --transformer "$out/joint/transformer" --output_dir "$out/jova-wan-nano" \
    $pack_args
# shellcheck disable=SC2086
$python "$here/wan_report.py" --model "$out/start" --audio "$out/audio/transformer" --joint "$out/joint/transformer" \
    --beside "$base" --output_dir "$out/report" --seed "$seed" $report_args
