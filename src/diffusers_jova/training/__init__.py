# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Training: from clips to a cache (`preprocessing`), from the cache to weights or a LoRA (`step`, `adapters`)."""
