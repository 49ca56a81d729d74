# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of other projects to ours and back: one module per project, pure functions on state dicts."""
