# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Training: from a cache to weights or a LoRA."""
