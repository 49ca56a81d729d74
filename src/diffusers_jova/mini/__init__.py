# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""jova-mini's corpus: sentences, voices and three-dimensional heads, for the model after jova-nano."""
