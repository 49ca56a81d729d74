# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What one metric says of one clip: values, or the reason why there are none."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np


class Status(StrEnum):
    """Whether a clip could be measured, and if not, why."""

    OK = "ok"
    NO_FACE = "no_face"
    SHORT = "short"  # fewer frames or samples than the protocol needs
    SILENT = "silent"  # no audio, or nothing but zeros
    NO_REFERENCE = "no_reference"
    NO_TEXT = "no_text"
    NO_SYNC = "no_sync"  # `verse` drops clips whose best offset lies at the end of its search
    NO_VIDEO = "no_video"
    MISSING = "missing"  # a prompt without a clip
    EXCLUDED = "excluded"  # the prompt says that its clip does not count for this metric
    ERROR = "error"


@dataclass(frozen=True)
class Measurement:
    """The values of a metric's columns for one clip; empty unless the status is `OK`.

    `details` holds what explains them (offsets, transcripts, the number of faces) in plain values, for the report.
    `features` holds arrays for what follows: another network, or a measure of a whole set.
    """

    status: Status
    values: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    features: dict[str, np.ndarray] = field(default_factory=dict)
