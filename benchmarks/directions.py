# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Measure how well videos follow recordings that are given, and what is made of the audio where videos are given:

    python benchmarks/directions.py
    python benchmarks/directions.py --model outputs/my-nano --num_clips 40 --rows pictured silent_clip

Recordings and clips are those of the small model's corpus that its training never saw. Lips: the mean over the clips
of r between the gap of the lips and the loudness, at the best lag of -1, 0, 1 frames; beside it the same of the lips
of each clip with the recordings of all the others, the floor.
"""

import argparse
import sys
import time

import numpy as np
import torch

from diffusers_jova import JoVAPipeline
from diffusers_jova.command import run
from diffusers_jova.media import Clip
from diffusers_jova.nano.corpus import FRAME_RATE
from diffusers_jova.nano.faces import Pose, draw_face
from diffusers_jova.nano.measuring import TalkingClips, held_out_plans, measure, record, to_uint8
from diffusers_jova.nano.speech import SAMPLING_RATE


NEUTRAL = "A person is talking."
KEPT_S = 0.64


def requests_of(row: str, plans, recordings: TalkingClips) -> list[dict]:
    """Return the arguments of a call for each clip of a row."""
    given = []
    for plan, frames, waveform in zip(plans, recordings.frames, recordings.waveforms):
        captions = {"prompt": plan.video_caption, "audio_prompt": plan.audio_caption, "transcript": plan.transcript}
        audio = {"audio": waveform}
        clip = Clip(frames, FRAME_RATE, waveform[None], SAMPLING_RATE)
        given.append(
            {
                "captioned": captions | audio,
                "neutral": {"prompt": NEUTRAL} | audio,
                "pictured": {"image": draw_face(plan.face(), Pose(), 64)} | audio,  # no text at all
                "silent_clip": captions | {"video": frames},
                "continued": captions | {"video": clip, "keep": KEPT_S},
            }[row]
        )
    return given


def make(pipe: JoVAPipeline, requests: list[dict], transcripts: list[str], batch_size: int, seed: int) -> TalkingClips:
    frames, waveforms = [], []
    for start in range(0, len(requests), batch_size):
        batch = requests[start : start + batch_size]
        inputs = {name: [request[name] for request in batch] for name in batch[0] if name != "keep"}
        inputs |= {"keep": batch[0].get("keep"), "prompt": inputs.get("prompt", [""] * len(batch))}
        rate = SAMPLING_RATE if "audio" in inputs else None
        generator = [torch.Generator().manual_seed(seed + start + k) for k in range(len(batch))]
        output = pipe(**inputs, audio_sampling_rate=rate, generator=generator, output_type="np")
        frames.append(to_uint8(np.asarray(output.frames)))
        waveforms.append(output.audio)
    return TalkingClips(transcripts, np.concatenate(frames), np.concatenate(waveforms))


def main(args: argparse.Namespace) -> None:
    pipe = JoVAPipeline.from_pretrained(args.model)
    pipe.set_progress_bar_config(disable=True)
    plans = held_out_plans(args.num_clips)
    recordings = record(plans)
    print("| clips | number | word error rate | lips: r | shuffled | face found | seconds per clip |")
    print("|---|---|---|---|---|---|---|")
    for row in ("recordings", *args.rows):
        started = time.perf_counter()
        clips = recordings
        if row != "recordings":
            requests = requests_of(row, plans, recordings)
            clips = make(pipe, requests, recordings.transcripts, args.batch_size, args.seed)
        seconds = (time.perf_counter() - started) / len(plans)
        m = measure(clips)
        cells = (row, len(plans), f"{m.word_error_rate:.3f}", f"{m.lips_in_time:.2f}", f"{m.shuffled:.2f}")
        print(
            "| " + " | ".join(map(str, (*cells, f"{100 * m.faces_found:.1f} %", f"{seconds:.1f}"))) + " |", flush=True
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    rows = ("captioned", "neutral", "pictured", "silent_clip", "continued")
    parser.add_argument("--model", default="jova-nano", help="the pipeline")
    parser.add_argument("--num_clips", type=int, default=16, help="held-out clips")
    parser.add_argument("--batch_size", type=int, default=8, help="clips in a call")
    parser.add_argument("--rows", nargs="+", choices=rows, default=list(rows), help="what to measure")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    sys.exit(run(main, parser.parse_args()))
