# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
class ConversionError(ValueError):
    """A checkpoint or a key map that cannot be converted; the message says why and what to do."""
