# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Compare ways in which a part of a video can be given, without any training for them:

    python benchmarks/given_frames.py --num_clips 50

noised  the given frames have the noise level of the others, and mask channels tell which they are; the frames that are
        made take over the offset at the border (what is built)
own     the same without the offset: the model's own frames
clean   they have no noise, but the timestep of the others
tokens  they have no noise, and their tokens have timestep 0

Columns as in docs/nano_report.md.
"""

import argparse
import sys

import torch

from diffusers_jova import JoVAPipeline
from diffusers_jova.command import run
from diffusers_jova.nano.directions import DIRECTIONS, HEADER, direction_row, make, recording_rows
from diffusers_jova.nano.measuring import held_out_plans, measure, record
from diffusers_jova.pipelines import pipeline_jova
from diffusers_jova.pipelines.directions import GivenLatents


class OwnFrames(GivenLatents):
    """What is made stays as the model makes it."""

    def go_on(self, velocities, tensors, sigma):
        return velocities


class CleanFrames(GivenLatents):
    """What is given of the video stands clean, whole or not; the timestep stays that of the rest."""

    def at(self, tensors, sigma):
        tensors = super().at(tensors, sigma)
        if "latents" in self.clean:
            is_given = self.is_given["latents"].reshape(-1, 1, 1)
            tensors["latents"] = torch.where(is_given, self.clean["latents"], tensors["latents"])
        return tensors


def give_tokens_their_timestep(transformer) -> None:
    """Let tokens of the frames that the mask channel marks have timestep 0. For one mask channel, the last one."""
    forward = transformer.forward
    patches = transformer.config.patch_size
    transformer.check_timesteps = lambda *args: None

    def with_timesteps(hidden_states, timestep, audio_timestep, **inputs):
        is_given = hidden_states[:, -1, :, 0, 0] > 0.5  # (B, F)
        if is_given[:, 1:].any():  # a reference image alone is not a part of the video
            per_frame = hidden_states.shape[3] // patches[1] * (hidden_states.shape[4] // patches[2])
            timestep = torch.where(is_given.repeat_interleave(per_frame, dim=1), 0, timestep[:, None])  # (B, V)
        return forward(hidden_states=hidden_states, timestep=timestep, audio_timestep=audio_timestep, **inputs)

    transformer.forward = with_timesteps


def main(args: argparse.Namespace) -> None:
    plans = held_out_plans(args.num_clips)
    recordings = record(plans)
    print(HEADER)
    for line in recording_rows(args.rows, plans, recordings):
        print(line, flush=True)
    classes = {"noised": GivenLatents, "own": OwnFrames, "clean": CleanFrames, "tokens": CleanFrames}
    for way, given_latents in classes.items():
        pipe = JoVAPipeline.from_pretrained(args.model)
        pipe.set_progress_bar_config(disable=True)
        pipeline_jova.GivenLatents = given_latents
        if way == "tokens":
            give_tokens_their_timestep(pipe.transformer)
        for name in args.rows:
            clips = make(pipe, DIRECTIONS[name], plans, recordings)
            print(direction_row(f"{name}, {way}", DIRECTIONS[name], plans, clips, measure(clips)), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    rows = ("continuation", "retake")
    parser.add_argument("--model", default="jova-nano", help="the pipeline")
    parser.add_argument("--num_clips", type=int, default=50, help="held-out clips")
    parser.add_argument("--rows", nargs="+", choices=rows, default=list(rows), help="what to measure")
    sys.exit(run(main, parser.parse_args()))
