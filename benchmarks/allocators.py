# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Time training steps of jova-mini's transformer on a CPU with glibc's allocator and with jemalloc, in turn:

    python benchmarks/allocators.py --threads 2

Needs jemalloc (Debian's libjemalloc2; --library names another file). Each round is a process of its own, which takes a
step to warm up and three that count: 8 clips, forwards and backwards in bfloat16, with random weights.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

from diffusers_jova import command


JEMALLOC = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2"
SETTINGS = {"MALLOC_CONF": "oversize_threshold:0,dirty_decay_ms:-1,muzzy_decay_ms:-1,thp:always"}
SHAPES = {"hidden_states": (33, 37, 8, 8), "audio_hidden_states": (40, 92), "encoder_hidden_states": (40, 192)}


def measure(threads: int, batch_size: int) -> float:
    """Return the seconds of a step."""
    import torch  # late: each round is a new process

    from diffusers_jova.mini.recipe import MINI
    from diffusers_jova.models.transformer_jova import JoVATransformer3DModel

    torch.set_num_threads(threads)
    transformer = JoVATransformer3DModel(**MINI.transformer).train()
    inputs = {name: torch.randn(batch_size, *shape) for name, shape in SHAPES.items()}
    inputs |= {"timestep": torch.full((batch_size,), 500.0), "audio_timestep": torch.full((batch_size,), 500.0)}
    inputs["encoder_attention_mask"] = torch.ones(batch_size, 40, dtype=torch.bool)
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            video, audio = transformer(**inputs, frame_rate=12.5, return_dict=False)
        (video.float().square().mean() + audio.float().square().mean()).backward()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", default=JEMALLOC, help="(default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--batch_size", type=int, default=8, help="clips (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of each, in turn (default: %(default)s)")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    if args.child:
        return print(measure(args.threads, args.batch_size))
    if not os.path.isfile(args.library):
        raise FileNotFoundError(f"There is no `{args.library}`: install jemalloc, or name its file with --library.")
    variables = {"glibc": {}, "jemalloc": {"LD_PRELOAD": args.library, **SETTINGS}}
    seconds: dict[str, list[float]] = {name: [] for name in variables}
    for _ in range(args.rounds):
        for name, environment in variables.items():
            child = [sys.executable, *sys.argv, "--child"]
            environment = {**os.environ, "DIFFUSERS_ATTN_BACKEND": "native", **environment}
            output = subprocess.run(child, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
            seconds[name].append(float(output.split()[-1]))
            print(f"{name}: {seconds[name][-1]:.2f} s a step of {args.batch_size}", flush=True)
    ratio = statistics.median(seconds["jemalloc"]) / statistics.median(seconds["glibc"])
    print(f"jemalloc takes {ratio:.2f} times as long as glibc")


if __name__ == "__main__":
    sys.exit(command.run(main, parse_args()))
