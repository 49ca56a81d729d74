#!/bin/sh
# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
#
# Measure speed and memory on the GPU of this machine, in less than 8 minutes. It needs the checkout, a Python with
# torch and, where there is no network, the folder benchmarks/wheels that benchmarks/wheels.sh has filled elsewhere.
#
#     benchmarks/gpu.sh --dry_run                       the plan
#     benchmarks/gpu.sh --output figures.jsonl
#     PYTHON=.venv/bin/python benchmarks/gpu.sh --smoke
set -eu

here=$(dirname "$0")
exec "$here/with_wheels.sh" "$here/gpu.py" "$@"
