#!/bin/sh
# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
#
# Fill benchmarks/wheels with what a machine without a network lacks, in the versions of constraints.txt, so that
# benchmarks/gpu.sh runs there. Git ignores the folder.
#
#     benchmarks/wheels.sh                              diffusers and what it needs beside transformers; pytest
#     benchmarks/wheels.sh bitsandbytes                 others in their place: of these 43 MB, for nf4
#     PYTHON_VERSION=3.11 benchmarks/wheels.sh
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
[ $# -gt 0 ] || set -- diffusers importlib-metadata pytest
platforms=''
for version in manylinux_2_28 manylinux_2_27 manylinux_2_24 manylinux_2_17 manylinux2014; do
    platforms="$platforms --platform ${version}_x86_64"
done
# shellcheck disable=SC2086  # several words
"${PYTHON:-python3}" -m pip download --no-deps --only-binary=:all: --implementation cp $platforms \
    --python-version "${PYTHON_VERSION:-3.12}" -c "$root/constraints.txt" -d "$root/benchmarks/wheels" "$@"
du -ch "$root"/benchmarks/wheels/*.whl
