#!/bin/sh
# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
#
# Pack what jova-mini's training needs; and train on the GPU of this machine, within minutes. gpu.py says how.
#
#     training/mini/gpu.sh train --parts outputs/carried/* --output_dir outputs/from_gpu
set -eu

here=$(dirname "$0")
exec "$here/../../benchmarks/with_wheels.sh" "$here/gpu.py" "$@"
