# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
import logging

import pytest


@pytest.fixture(autouse=True)
def log_level():
    """Put back the level of the package's log, which the programs that these tests run set for themselves."""
    logger = logging.getLogger("diffusers_jova")
    level = logger.level
    yield
    logger.setLevel(level)
