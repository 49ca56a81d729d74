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

root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
export PYTHON="$python" PYTHONPATH="$root/src${PYTHONPATH:+:$PYTHONPATH}"
if [ -n "$(ls "$root"/benchmarks/wheels/*.whl 2>/dev/null)" ]; then
    site=$(mktemp -d)
    trap 'rm -rf "$site"' EXIT
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --target "$site" \
        "$root"/benchmarks/wheels/*.whl
    export PYTHONPATH="$PYTHONPATH:$site"
fi
"$python" "$root/benchmarks/gpu.py" "$@"
