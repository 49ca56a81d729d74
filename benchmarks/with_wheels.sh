#!/bin/sh
# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
#
# Run a program of this checkout with a Python that has torch and, where there is no network, the wheels that
# benchmarks/wheels.sh has put into benchmarks/wheels elsewhere.
#
#     PYTHON=.venv/bin/python benchmarks/with_wheels.sh benchmarks/gpu.py --smoke
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
"$python" "$@"
