# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""jova-nano: the corpus of talking digits, made on the spot, and the training of the small model's components."""
