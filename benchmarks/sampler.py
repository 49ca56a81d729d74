# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Time what it costs to draw the order of the data, against drawing the bucket's whole order for every visit:

    python benchmarks/sampler.py
    python benchmarks/sampler.py --num_clips 100000 --num_buckets 12

Seconds per batch over the first batches of 8 processes, the first one, which draws the order, included; and until the
first batch of a run that is resumed.
"""

import argparse
import sys
import time
from itertools import islice

from diffusers_jova.command import run
from diffusers_jova.training.dataset import StepSampler


class OrderPerVisit(StepSampler):
    """The same batches, with nothing kept."""

    def draw_order(self, bucket, number):
        self.orders.clear()
        return super().draw_order(bucket, number)


def timed(sampler: StepSampler, num_batches: int) -> tuple[float, list]:
    """Return seconds per batch, and the batches."""
    started = time.perf_counter()
    batches = list(islice(iter(sampler), num_batches))
    return (time.perf_counter() - started) / num_batches, batches


def main(args: argparse.Namespace) -> None:
    keys = [f"clip{index:08d}" for index in range(args.num_clips)]
    buckets = [keys[start :: args.num_buckets] for start in range(args.num_buckets)]
    options = {"batch_size": args.batch_size, "num_processes": 8}
    before_s, before = timed(OrderPerVisit(buckets, **options), args.num_batches)
    after_s, after = timed(StepSampler(buckets, **options), args.num_batches)
    more_s, _ = timed(StepSampler(buckets, **options), 100 * args.num_batches)
    assert before == after, "the same seed must give the same batches"
    resume_s, _ = timed(StepSampler(buckets, **options, first_step=args.first_step), 1)
    print(f"{args.num_clips:,} clips in {args.num_buckets} bucket(s), batches of {args.batch_size}")
    print(f"an order per visit: {before_s:.4f} s per batch over {args.num_batches} batches")
    print(f"one order kept:     {after_s:.4f} s, {before_s / after_s:.0f} times less; the batches are the same")
    print(
        f"                    {more_s:.5f} s over {100 * args.num_batches} batches, {before_s / more_s:.0f} times less"
    )
    print(f"resumed at step {args.first_step:,}: {resume_s:.2f} s to the first batch")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--num_clips", type=int, default=1_900_000, help="clips in the cache")
    parser.add_argument("--num_buckets", type=int, default=1, help="shapes of clips")
    parser.add_argument("--batch_size", type=int, default=4, help="clips per batch and process")
    parser.add_argument("--num_batches", type=int, default=20, help="batches to time")
    parser.add_argument("--first_step", type=int, default=50_000, help="step to resume at")
    sys.exit(run(main, parser.parse_args()))
