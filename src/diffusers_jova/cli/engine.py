# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Flags of the verbs whose work can be done by the machines of a cluster."""

import argparse


def add_engine_flags(parser: argparse.ArgumentParser, has_models: bool = False) -> None:
    """Let a verb take `--engine` and what belongs to it; `has_models`: also what is for copies of a model."""
    engine = parser.add_argument_group("engine", "docs/howto/many_machines.md says how to set up a cluster")
    engine.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="local: processes of this machine; ray: the machines of a Ray cluster, where --num_workers is the number "
        "of readers on all of them (default: local)",
    )
    engine.add_argument(
        "--address",
        help="HOST:PORT of the cluster's head, or auto (default: RAY_ADDRESS, else a cluster on this machine, else "
        "one that is started for this run)",
    )
    if has_models:
        engine.add_argument("--concurrency", type=int, help="copies of a model in the cluster at a time (default: 1)")
        engine.add_argument(
            "--gpus_per_worker",
            type=float,
            help="GPUs of each copy, also a part of one, such as 0.25 (default: 1 on a GPU, else 0)",
        )
