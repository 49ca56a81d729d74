# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Measure the seams of long clips that are made window by window, beside the same jumps inside of windows:

    python benchmarks/windows.py
    python benchmarks/windows.py --overlap_num_frames 1 5 9 --num_talks 8

A talk is three recordings of one voice, one after the other, that the small model's training never saw; with an image
of its face. Once the recording is given, once its words are, window by window. Image: the mean absolute difference of
two frames that follow each other, of 255. Loudness: the difference of the level, in dB, of the 40 ms before and after
a frame's beginning, where one of both is above -40 dB. Ratio: seams over inside, of the means.
"""

import argparse
import sys

import numpy as np
import torch

from diffusers_jova import JoVAPipeline
from diffusers_jova.command import run
from diffusers_jova.nano.corpus import make_frames, make_waveform, plan_clip
from diffusers_jova.nano.directions import image_jumps, loudness_jumps, seam_and_inside
from diffusers_jova.nano.faces import Pose, draw_face
from diffusers_jova.nano.measuring import TalkingClips, measure, to_uint8
from diffusers_jova.nano.speech import SAMPLING_RATE, VOICES


NUM_PARTS = 3
WINDOW = 21


def talks(number: int):
    """Return the plans of each talk's parts: one voice and one face."""
    voices = list(VOICES)
    for talk in range(number):
        voice = voices[talk % len(voices)]
        identity = plan_clip("held_out", talk, voice=voice).identity
        indices = range(NUM_PARTS * talk, NUM_PARTS * (talk + 1))
        yield [plan_clip("held_out", index, identity=identity, voice=voice) for index in indices]


def row(name: str, frames: np.ndarray, waveforms: np.ndarray, transcripts: list[str], seams: list[int]) -> str:
    """Return a line of the table for clips (B, F, H, W, 3) and (B, N); `seams` are the first frames after them."""
    images = np.stack([image_jumps(clip) for clip in frames])
    sounds = np.stack([loudness_jumps(waveform, frames.shape[1]) for waveform in waveforms])
    cells = [name]
    for jumps in (images, sounds):
        seam, inside = seam_and_inside(jumps, seams)
        cells += [f"{seam:.2f}", f"{inside:.2f}", f"{seam / inside:.2f}"]
    m = measure(TalkingClips(transcripts, frames, waveforms))
    cells += [f"{m.lips_in_time:.2f}", f"{m.shuffled:.2f}", f"{m.word_error_rate:.3f}"]
    return "| " + " | ".join(cells) + " |"


def main(args: argparse.Namespace) -> None:
    pipe = JoVAPipeline.from_pretrained(args.model)
    pipe.set_progress_bar_config(disable=True)
    plans = list(talks(args.num_talks))
    recordings = [np.concatenate([make_waveform(plan) for plan in parts]) for parts in plans]
    images = [draw_face(parts[0].face(), Pose(), 64) for parts in plans]
    words = [[plan.transcript for plan in parts] for parts in plans]
    transcripts = [" ".join(texts) for texts in words]
    print(
        "| clips | image: seam | inside | ratio | loudness: seam | inside | ratio | lips: r | shuffled | words wrong |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    pairs = zip(plans, recordings)
    own = np.stack(
        [
            np.concatenate([make_frames(plan, part, 64) for plan, part in zip(parts, np.split(recording, NUM_PARTS))])
            for parts, recording in pairs
        ]
    )
    print(row("recordings", own, np.stack(recordings), transcripts, [WINDOW, 2 * WINDOW]), flush=True)
    for overlap in args.overlap_num_frames:
        windows = {"window_num_frames": WINDOW, "overlap_num_frames": overlap}
        length = NUM_PARTS * (WINDOW - overlap) + overlap
        seams = [WINDOW + k * (WINDOW - overlap) for k in range(len(recordings[0]))]
        for name, given in {
            "a recording": {"audio": recordings, "audio_sampling_rate": SAMPLING_RATE, "prompt": [""] * len(plans)},
            "words": {
                "window_transcripts": words,
                "num_frames": length,
                "prompt": [parts[0].video_caption for parts in plans],
                "audio_prompt": [parts[0].audio_caption for parts in plans],
            },
        }.items():
            generator = [torch.Generator().manual_seed(args.seed + k) for k in range(len(plans))]
            output = pipe(**given, **windows, image=images, generator=generator, output_type="np")
            name = f"{name} given, overlap of {overlap}"
            print(row(name, to_uint8(output.frames), output.audio, transcripts, seams), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--model", default="jova-nano", help="the pipeline")
    parser.add_argument("--num_talks", type=int, default=4, help="talks of three windows")
    parser.add_argument("--overlap_num_frames", type=int, nargs="+", default=[1, 5], help="overlaps to compare")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    sys.exit(run(main, parser.parse_args()))
