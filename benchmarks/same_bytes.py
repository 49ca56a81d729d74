# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Print the hash of everything that our programs write, to see that a change inside moved no byte of it:

python benchmarks/same_bytes.py --work_dir /tmp/before > before.txt
git switch a-branch
python benchmarks/same_bytes.py --work_dir /tmp/after > after.txt; diff before.txt after.txt

A cache, ten steps of training and of a LoRA, the demo's clip, every conversion there and back: two minutes on two
cores. The same machine and thread count must run both: kernels may differ in their last bits from one processor to
another.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from diffusers_jova import command


REPOSITORY = Path(__file__).parents[1]
VOLATILE = {"report.json", "timings.json", "README.md", "data.json"}  # they name times, folders and versions


def run(*command: object) -> str:
    """Run one of our programs on one thread and return what it printed."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, *map(str, command)]
    result = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(command)} ended with {result.returncode}:\n{result.stderr}")
    return result.stdout


def print_hashes(title: str, folder: Path) -> None:
    print(f"# {title}")
    paths = [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())
    for path in paths:
        if path.name not in VOLATILE and path.suffix not in {".lock", ".html", ".png"}:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            print(digest[:32], path.relative_to(folder) if path != folder else path.name)


def write_clips(folder: Path) -> None:
    """Write three clips of a face: whole, without audio, and longer than one window."""
    import numpy as np
    import torch
    from PIL import Image

    from diffusers_jova import write_video

    folder.mkdir()
    portrait = Image.open(REPOSITORY / "training" / "portrait.png").convert("RGB").resize((256, 256))
    rate = 16000
    for index, (num_frames, has_audio) in enumerate([(29, True), (29, False), (45, True)]):
        frames = np.stack(
            [np.roll(np.asarray(portrait), (step // 4, step // 3), (0, 1)) for step in range(num_frames)]
        )
        time = torch.arange(num_frames * rate // 12) / rate
        audio = 0.3 * torch.sin(2 * torch.pi * (200 + 50 * index) * time) * (time * 3).sin().abs()
        write_video(folder / f"clip{index}.mp4", frames, 12.0, audio[None] if has_audio else None, rate)
    rows = [{"file_name": f"clip{index}.mp4", "video_caption": "A face.", "transcript": "one"} for index in range(3)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metadata.jsonl").write_text(lines, encoding="utf-8")


def losses_of(folder: Path) -> list[str]:
    """Return the lines of a run's log, without what depends on the clock."""
    lines = []
    for path in sorted(folder.rglob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            lines.append(json.dumps({key: row[key] for key in row if "second" not in key and "time" not in key}))
    return lines


def train(script: str, name: str, work: Path, *options: object) -> None:
    output = work / name
    run(
        *(f"training/{script}.py", "--model", "jova-nano", "--cache_dir", work / "cache", "--output_dir", output),
        *("--max_train_steps", 10, "--checkpointing_steps", 10, "--seed", 7, *options),
    )
    print(f"# ten steps of {name}")
    print(*losses_of(output), sep="\n")
    for weights in sorted(output.glob("**/*.safetensors")):
        print(hashlib.sha256(weights.read_bytes()).hexdigest()[:32], weights.relative_to(output))


def convert(script: str, source: Path, work: Path, name: str, *options: object) -> Path:
    output = work / "converted" / name
    run(f"conversion/{script}.py", "--input", source, "--output", output, *options)
    print_hashes(f"{script} {name}", output)
    return output


def main(args: argparse.Namespace) -> None:
    work = args.work_dir.absolute()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    write_clips(work / "clips")
    run(
        *("training/preprocess.py", "--data", work / "clips", "--model", "jova-nano", "--output_dir", work / "cache"),
        *("--num_workers", 0),
    )
    print_hashes("cache", work / "cache")
    train("train", "joint", work, "--branch", "joint")
    train("train", "audio from video", work, "--branch", "audio", "--init_audio_from_video")
    train("train_lora", "lora", work, "--num_proof_samples", 1)

    run("-m", "diffusers_jova", "demo", "--output", work / "demo.mp4")
    print_hashes("demo", work / "demo.mp4")

    run("-m", "diffusers_jova", "create", "--output", work / "random")
    print_hashes("create", work / "random")
    (work / "converted").mkdir()
    shipped = REPOSITORY / "checkpoints" / "jova-nano"
    for branch in ("video", "audio"):
        waver = convert(
            "convert_waver", shipped / "transformer", work, f"waver {branch}", "--to", "waver", "--branch", branch
        )
        convert("convert_waver", waver, work, f"from waver {branch}", "--to", "jova", "--branch", branch)
    mmaudio = convert("convert_mmaudio", shipped / "audio_vae", work, "mmaudio", "--to", "mmaudio")
    convert("convert_mmaudio", mmaudio, work, "from mmaudio")
    bigvgan = convert("convert_bigvgan", work / "random" / "vocoder", work, "bigvgan", "--to", "bigvgan")
    convert("convert_bigvgan", bigvgan, work, "from bigvgan")
    convert("convert_wan_vae", shipped / "vae", work, "wan", "--to", "wan")
    for layout in ("comfyui", "kohya"):
        lora = convert("convert_lora", work / "lora", work, f"lora {layout}", "--to", layout)
        convert("convert_lora", lora, work, f"lora from {layout}", "--to", "diffusers")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work_dir", type=Path, required=True, help="folder for everything written; emptied first")
    sys.exit(command.run(main, parser.parse_args()))
