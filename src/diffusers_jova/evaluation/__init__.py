# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Measures of what a model makes: its words, its lips, its pictures."""
