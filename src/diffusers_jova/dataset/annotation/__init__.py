# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Clips -> what is seen, heard and said in them, written by models, beside what people wrote."""
