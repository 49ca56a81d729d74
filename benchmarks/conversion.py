# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Compare the conversion of a 4 GB checkpoint with `cp`, `sync` and `sha256sum` of it on the same disk (aim: 0.5):

python benchmarks/conversion.py --folder .

The checkpoint is a Waver of random bfloat16 weights; it becomes a JoVA transformer, which has twice its bytes. Speeds
are bytes of the checkpoint per second. Peak memory is that of the whole process, with the imports (aim: 2 GB and the
largest tensor), also for the plan of a 48 GB checkpoint that is all hole (aim: seconds, 1 GB).
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from diffusers_jova.command import run


SCRIPT = Path(__file__).parents[1] / "conversion" / "convert_waver.py"
# Calls a verb; prints how long it took after the imports, in seconds, and the peak of its memory, in bytes
MEASURED = """
import runpy, sys, time
import diffusers_jova
sys.argv = sys.argv[1:]
start = time.perf_counter()
runpy.run_path(sys.argv[0], run_name="__main__")
peak = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")][0]
print(time.perf_counter() - start, int(peak) * 1024)
"""


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--folder", default=None, help="where to write some 16 GB; None is the temporary folder")
    parser.add_argument("--num_runs", type=int, default=1, help="one side after the other")
    return parser.parse_args()


def waver_shapes(**config):
    """Return names and shapes of a Waver of this config."""
    from diffusers_jova.conversion.key_mapping import load_key_map
    from diffusers_jova.conversion.plan import meta_model, shapes_of
    from diffusers_jova.models.transformer_jova import JoVATransformer3DModel

    shapes = shapes_of(meta_model(JoVATransformer3DModel, {**config, "audio_in_channels": None}))
    writes, _ = load_key_map("waver").bind(branch="video", head="").inverse.match(shapes)
    return {write.name: list(write.sources[0]) for write in writes}


def write_checkpoint(path, shapes, dtype, itemsize, random):
    """Write a safetensors file, of random bfloat16 numbers or all hole; return its bytes."""
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + math.prod(shape) * itemsize
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in shapes.values() if random else ():
            numbers = torch.randn(math.prod(shape), generator=torch.Generator().manual_seed(0)).bfloat16()
            file.write(numbers.view(torch.uint8).numpy())
        file.truncate(8 + len(text) + end)
    return path.stat().st_size


def convert(*arguments):
    """Return seconds and peak memory of a call of the verb."""
    command = [sys.executable, "-c", MEASURED, str(SCRIPT), "--to", "jova", *map(str, arguments)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    seconds, peak = output.splitlines()[-1].split()
    return float(seconds), int(peak)


def reference(source, target):
    """Return the seconds that `cp`, `sync` and `sha256sum` take."""
    start = time.perf_counter()
    subprocess.run(["cp", source, target], check=True)
    subprocess.run(["sync", target], check=True)
    subprocess.run(["sha256sum", source], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main(args):
    print(f"{platform.platform()}, {os.cpu_count()} CPU cores, torch {torch.__version__}")
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        folder = Path(folder)
        huge = folder / "huge.safetensors"
        num_bytes = write_checkpoint(huge, waver_shapes(), "F32", 4, random=False)
        seconds, peak = convert("--input", huge, "--preset", "jova-24b", "--dry_run")
        print(f"plan of {num_bytes / 1e9:.1f} GB: {seconds:.1f} s, peak memory {peak / 1e9:.2f} GB")

        source = folder / "waver.safetensors"
        shapes = waver_shapes(num_attention_heads=12, num_layers=12, num_single_layers=22)
        num_bytes = write_checkpoint(source, shapes, "BF16", 2, random=True)
        for _ in range(args.num_runs):
            os.sync()
            expected = reference(source, folder / "copy")
            (folder / "copy").unlink()
            os.sync()
            seconds, peak = convert("--input", source, "--output", folder / "jova", "--overwrite")
            print(
                f"{num_bytes / 1e9:.2f} GB: cp, sync, sha256sum {num_bytes / expected / 1e6:.0f} MB/s, "
                f"conversion {num_bytes / seconds / 1e6:.0f} MB/s, ratio {expected / seconds:.2f}, "
                f"peak memory {peak / 1e9:.2f} GB"
            )


if __name__ == "__main__":
    sys.exit(run(main, parse_args()))
