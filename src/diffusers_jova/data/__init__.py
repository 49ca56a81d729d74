# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Data: from clips to a cache of latents, text embeddings and mouth boxes that training reads."""
