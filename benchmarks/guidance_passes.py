# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Time a call's guidance passes in one batch over one after another, of jova-nano:

    python benchmarks/guidance_passes.py --threads 1
    python benchmarks/guidance_passes.py --device cuda

Both kinds of call take turns, so that a busy machine slows them alike. Figures are medians of the turns' ratios; on a
CPU with one thread they are of CPU time, else of wall time. Below 1 one batch is faster.
"""

import argparse
import statistics
import sys
import time

import torch

from diffusers_jova import JoVAPipeline
from diffusers_jova.command import run


TEXTS = {"prompt": "A woman with short hair.", "audio_prompt": "A calm voice.", "transcript": "three seven"}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--model", default="jova-nano", help="a pipeline: its name or folder")
    parser.add_argument("--device", default="cpu", help="cpu, cuda ...")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of all models")
    parser.add_argument("--num_frames", type=int, nargs="+", default=[5, 21], help="lengths of the clips")
    parser.add_argument("--num_inference_steps", type=int, default=4, help="denoising steps")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--num_runs", type=int, default=5, help="turns after one that warms up")
    return parser.parse_args()


def seconds_of(pipe: JoVAPipeline, args: argparse.Namespace, num_frames: int, batch_guidance: bool) -> float:
    """Return how long a call took, without its decoding."""
    is_cpu = torch.device(args.device).type == "cpu"
    clock = time.process_time if is_cpu and args.threads == 1 else time.perf_counter
    start = clock()
    pipe(
        **TEXTS,
        num_frames=num_frames,
        num_inference_steps=args.num_inference_steps,
        generator=torch.Generator().manual_seed(0),
        output_type="latent",
        batch_guidance=batch_guidance,
    )
    if not is_cpu:
        torch.accelerator.synchronize()
    return clock() - start


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    pipe = JoVAPipeline.from_pretrained(args.model, dtype=getattr(torch, args.dtype)).to(args.device)
    pipe.set_progress_bar_config(disable=True)
    for num_frames in args.num_frames:
        turns = []
        for _ in range(1 + args.num_runs):  # the first one warms up
            turns.append([seconds_of(pipe, args, num_frames, is_batch) for is_batch in (True, False)])
        ratios = [batch / separate for batch, separate in turns[1:]]
        separate = statistics.median(separate for _, separate in turns[1:])
        print(
            f"{num_frames} frames: {separate:.3f} s one after another; one batch {statistics.median(ratios):.3f} of "
            f"it ({min(ratios):.3f} to {max(ratios):.3f}, {len(ratios)} turns)"
        )


if __name__ == "__main__":
    sys.exit(run(main, parse_args()))
