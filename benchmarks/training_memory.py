# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Compare the memory that `--dry_run` foresees with what training then takes, for a model of 306 M parameters on CPU:

    python benchmarks/training_memory.py --folder outputs/training_memory

Each case is a process of its own. What it takes is its largest resident size, less that of a process that imported the
same modules and does nothing.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import torch

from diffusers_jova.command import run
from diffusers_jova.data import cache
from diffusers_jova.pipelines.random_pipeline import create_pipeline


ROOT = Path(__file__).parents[1]
GIB = 2**30
# 2 blocks of four streams and 4 of two, 1024 wide
TRANSFORMER = {"num_attention_heads": 8, "attention_head_dim": 128, "num_layers": 2, "num_single_layers": 4}
NUM_FRAMES, SIZE, FRAME_RATE, NUM_TEXT_TOKENS = 25, 192, 12.5, 60
CASES = {
    "full": ("train.py", []),
    "full, gradient checkpointing": ("train.py", ["--gradient_checkpointing"]),
    "full, batch 2": ("train.py", ["--train_batch_size", "2"]),
    "full, bf16, EMA": ("train.py", ["--mixed_precision", "bf16", "--use_ema"]),
    "full, 8-bit AdamW": ("train.py", ["--use_8bit_adam"]),
    "full, two batches per step": ("train.py", ["--gradient_accumulation_steps", "2"]),
    "video LoRA, bf16": ("train.py", ["--video_lora_rank", "16", "--mixed_precision", "bf16"]),
    "one branch": ("train.py", ["--branch", "video"]),
    "LoRA": ("train_lora.py", []),
    "LoRA, bf16": ("train_lora.py", ["--mixed_precision", "bf16"]),
    "LoRA, nf4, bf16": ("train_lora.py", ["--base_quantization", "nf4", "--mixed_precision", "bf16"]),
}


def prepare(folder: Path) -> None:
    """Write a model with random weights and a cache of one random clip."""
    pipe = create_pipeline(**TRANSFORMER)
    print(f"{pipe.transformer.num_parameters() / 1e6:.0f} M parameters")
    pipe.save_pretrained(folder / "model")
    num_latents, size, num_audio = (NUM_FRAMES - 1) // 4 + 1, SIZE // 8, -(-NUM_FRAMES * 5 // 2)
    texts = {f"prompt_embeds{suffix}": torch.randn(NUM_TEXT_TOKENS, 128) for suffix in ("", "_2")}
    tensors = {
        "video_moments": torch.randn(32, num_latents, size, size),
        "image_moments": torch.randn(32, 1, size, size),
        "audio_moments": torch.randn(40, num_audio),
        "mouth_boxes": torch.tensor([[50.0, 100.0, 90.0, 130.0]]).repeat(NUM_FRAMES, 1),
        **texts,
    }
    row = {"key": "clip", "kind": "both", "num_frames": NUM_FRAMES, "height": SIZE, "width": SIZE,
           "frame_rate": FRAME_RATE, "num_samples": 32000, "duration_s": 2.0, "video_caption": "a face"}  # fmt: skip
    cache.write_sample(folder / "cache", row, tensors)
    shared = {f"unconditional.{name}": text for name, text in texts.items()}
    cache.write_shared(folder / "cache", shared | {f"black.{SIZE}x{SIZE}": torch.randn(32, 1, size, size)})
    cache.write_index(folder / "cache")
    models = cache.model_fingerprint(folder / "model")
    cache.write_fingerprint(folder / "cache", {"models": models, "settings": {}})


def largest_size(command: list[str], stop: str | None = None) -> tuple[int, str]:
    """Return the largest resident size of a process in bytes, and what it printed.

    Args:
        command: The process.
        stop: A text in its output at which it is stopped.
    """
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true"}
    largest = 0
    with tempfile.NamedTemporaryFile("w+") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        while process.poll() is None:
            try:
                largest = max(largest, psutil.Process(process.pid).memory_info().rss)
            except psutil.NoSuchProcess:
                break
            if stop is not None and stop in Path(log.name).read_text():
                process.kill()
            time.sleep(0.002)
        process.wait()
        return largest, Path(log.name).read_text()


def main(args):
    folder = Path(args.folder)
    if not (folder / "cache" / "fingerprint.json").is_file():
        prepare(folder)
    idle_code = (
        "import diffusers_jova.training.train_lora, bitsandbytes, time; print('idle', flush=True); time.sleep(1)"
    )
    idle, _ = largest_size([sys.executable, "-c", idle_code])
    print(f"idle process: {idle / GIB:.2f} GiB\n")
    print("| case | foreseen, GiB | taken, GiB | difference |\n|---|---|---|---|")
    for index, (name, (script, flags)) in enumerate(CASES.items()):
        if args.only and not re.search(args.only, name):
            continue
        output_dir = folder / f"out-{index}-{time.time_ns()}"
        command = [sys.executable, str(ROOT / "training" / script), "--model", str(folder / "model")]
        command += ["--cache_dir", str(folder / "cache"), "--output_dir", str(output_dir), *flags]
        command += ["--max_train_steps", str(args.steps), "--checkpointing_steps", "1000", "--report_to", "none"]
        _, printed = largest_size([*command, "--dry_run"])
        match = re.search(r"peak +([\d.]+) GiB", printed)
        if match is None:
            print(printed)
            continue
        foreseen = float(match[1])
        # the steps themselves: what is written afterwards is not training
        largest, printed = largest_size(command, stop=f"step {args.steps - 1}/")
        taken = (largest - idle) / GIB
        print(f"| {name} | {foreseen:.2f} | {taken:.2f} | {100 * (foreseen / taken - 1):+.0f} % |", flush=True)
        if args.verbose:
            print(printed[-2000:])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default="outputs/training_memory", help="where model, cache and results go")
    parser.add_argument("--steps", type=int, default=4, help="optimizer steps per case")
    parser.add_argument("--only", help="regular expression that chooses cases")
    parser.add_argument("--verbose", action="store_true", help="show what the runs printed")
    sys.exit(run(main, parser.parse_args()))
