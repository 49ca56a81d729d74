# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What one metric says of one clip: values, or the reason why there are none."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """Whether a clip could be measured, and if not, why."""

    OK = "ok"
    NO_FACE = "no_face"
    SHORT = "short"  # fewer frames or samples than the protocol needs
    SILENT = "silent"  # no audio, or nothing but zeros
    NO_REFERENCE = "no_reference"
    NO_TEXT = "no_text"
    NO_SYNC = "no_sync"  # `verse` drops clips whose best offset lies at the end of its search
    ERROR = "error"


@dataclass(frozen=True)
class Measurement:
    """The values of a metric's columns for one clip; empty unless the status is `OK`.

    `details` holds what explains them (offsets, transcripts, the number of faces) in plain values, for the report.
    """

    status: Status
    values: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
