# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Train jova-mini on a GPU within minutes. Without a GPU, pack what it needs; with one, `training/mini/gpu.sh` trains:

    MAKE_ONLY=1 training/mini/train.sh outputs/mini
    training/mini/gpu.sh pack --made outputs/mini --output_dir outputs/carried
    training/mini/gpu.sh train --parts outputs/carried/* --output_dir outputs/from_gpu
    training/mini/gpu.sh train --parts outputs/carried/* --output_dir outputs/try --smoke    # on a CPU, two steps

docs/mini.md says how to serve a machine without a network, and what to do with the result.
"""

import argparse
import math
import os
import sys
import tempfile
from pathlib import Path

from diffusers_jova.command import run


CONFIGS = Path(__file__).parents[1] / "configs"
SHARES = {"words": 10.0, "audio": 25.0, "video": 10.0, "joint": 55.0}  # ours: about those of the CPU's hours
BATCH_SIZES = dict.fromkeys(SHARES, 128)
BRANCHES = {"words": "audio", "audio": "audio", "video": "video", "joint": "joint"}
CACHES = {"words": "speech", "audio": "joint", "video": "joint", "joint": "joint"}
STARTS_FROM = {  # of a stage, the settings that name another one's result
    "audio": {"audio_transformer": "words"},
    "joint": {"video_transformer": "video", "audio_transformer": "audio"},
}
SMOKE_STEPS, SMOKE_BATCH_SIZE = 2, 2


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    pack = verbs.add_parser("pack", help="make parts to carry of what MAKE_ONLY=1 train.sh made")
    pack.add_argument("--made", type=Path, required=True, help="folder that train.sh wrote")
    pack.add_argument("--output_dir", type=Path, required=True, help="for the parts; it is replaced")
    pack.add_argument("--part_mb", type=float, default=48, help="size of a part, MiB (default: %(default)s)")
    pack.add_argument("--max_clips", type=int, help="of each cache, the first ones (default: all)")
    train = verbs.add_parser("train", help="train all stages and write transformer and metrics.json")
    train.add_argument("--parts", type=Path, nargs="+", required=True, help="folders that pack wrote")
    train.add_argument("--output_dir", type=Path, required=True, help="for the result; it is replaced")
    train.add_argument("--stages_dir", type=Path, help="keeps the stages, for a run that goes on (default: none does)")
    train.add_argument("--minutes", type=float, default=7.5, help="for everything (default: %(default)s)")
    for stage, share in SHARES.items():
        train.add_argument(f"--{stage}_share", type=float, default=share, help="of the time (default: %(default)s)")
        train.add_argument(f"--{stage}_batch_size", type=int, help=f"clips a step (default: {BATCH_SIZES[stage]})")
    train.add_argument("--num_workers", type=int, default=12, help="processes that read clips (default: %(default)s)")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--smoke", action="store_true", help="two steps a stage on the CPU: tries the code")
    train.add_argument("--dry_run", action="store_true", help="print the plan and stop")
    return parser.parse_args()


def pack(args: argparse.Namespace) -> None:
    from diffusers_jova.mini.carried import write_carried  # late: it takes seconds

    caches = {name: args.made / f"cache-{name}" for name in sorted(set(CACHES.values()))}
    parts = write_carried(args.made / "base", caches, args.output_dir, args.part_mb, args.max_clips)
    for part in parts:
        size = sum(path.stat().st_size for path in part.rglob("*") if path.is_file())
        print(f"{part}: {size / 2**20:.1f} MiB")


def train(args: argparse.Namespace) -> None:
    shares = {stage: getattr(args, f"{stage}_share") for stage in SHARES}
    if args.minutes <= 0 or min(shares.values()) <= 0:
        raise ValueError(f"Minutes and shares must be positive, got {args.minutes:g} minutes and shares {shares}.")
    if args.dry_run:
        for stage, share in shares.items():
            minutes = args.minutes * share / sum(shares.values())
            print(f"{stage}: {minutes:.1f} minutes, {batch_size(args, stage)} clips a step")
        return
    if args.smoke:
        os.environ["ACCELERATE_USE_CPU"] = "true"
    from diffusers_jova.mini.carried import join_carried
    from diffusers_jova.mini.timed import Clock, check_device, train_in_time  # late: they take seconds

    clock = Clock(math.inf if args.smoke else 60 * args.minutes)
    check_device(args.smoke)
    with tempfile.TemporaryDirectory() as folder:
        join_carried(args.parts, Path(folder) / "whole")
        stages_dir = args.stages_dir or Path(folder) / "stages"
        num_steps = SMOKE_STEPS if args.smoke else None
        metrics = train_in_time(
            Path(folder) / "whole", args.output_dir, stages_dir, plan(args, shares), clock, num_steps
        )
    for name, figures in metrics["stages"].items():
        print(f"{name}: " + ", ".join(f"{what} {value}" for what, value in figures.items()))


def batch_size(args: argparse.Namespace, stage: str) -> int:
    return getattr(args, f"{stage}_batch_size") or (SMOKE_BATCH_SIZE if args.smoke else BATCH_SIZES[stage])


def plan(args: argparse.Namespace, shares: dict[str, float]) -> list:
    """Return the stages of train.sh, with what differs on a card."""
    from diffusers_jova.mini.timed import Stage
    from diffusers_jova.training.config import TrainingConfig
    from diffusers_jova.training.flags import read_yaml

    stages = []
    for name, share in shares.items():
        settings = read_yaml(CONFIGS / ("mini_joint.yaml" if name == "joint" else "mini.yaml"), TrainingConfig)
        settings |= {"branch": BRANCHES[name], "train_batch_size": batch_size(args, name), "seed": args.seed}
        settings |= {"mixed_precision": "no" if args.smoke else "bf16"}
        settings |= {"dataloader_num_workers": 0 if args.smoke else args.num_workers}
        stages.append(Stage(name, settings, share, CACHES[name], STARTS_FROM.get(name, {})))
    return stages


def main(args: argparse.Namespace) -> None:
    {"pack": pack, "train": train}[args.verb](args)


if __name__ == "__main__":
    sys.exit(run(main, parse_args()))
