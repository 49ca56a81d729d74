# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Whether the profile `local` measures: faults are made in clips on purpose, and each value must move or must not.

Values that nobody expects anything of are shown, too: a reader sees what else a fault does.
"""
# F frames, H W rows and columns, N samples; C columns of the profile

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from scipy.ndimage import gaussian_filter

from ..images import load_image
from ..media import read_video
from .audio_input import mono, resample
from .clips import Subject
from .loudness import SAMPLING_RATE
from .measurement import Measurement, Status
from .metrics import choose_variants, metric_named
from .passes import Plan
from .plans import make_plans
from .prompt_file import Prompt, read_prompts


SHIFTS = tuple(shift for shift in range(-5, 6) if shift)  # frames
BLUR = 2.0  # pixels: the standard deviation
GREY = 128
SEED = 0  # of the noise


@dataclass(frozen=True)
class FaultyClip:
    """A clip as passes see it, held in memory.

    Attributes:
        frames: (F, H, W, 3) uint8.
        waveform: (N,) float32, mono at 16 kHz.
        image: the reference image, (H, W, 3) uint8.
    """

    prompt: Prompt
    frames: np.ndarray
    frame_rate: float
    waveform: np.ndarray
    image: np.ndarray

    def audio(self, sampling_rate: int) -> np.ndarray:
        return resample(self.waveform, SAMPLING_RATE, sampling_rate)


def read_clips(folder: str | os.PathLike) -> list[FaultyClip]:
    """Return the clips of a folder: prompts.jsonl, a video and an image for each line."""
    clips = []
    for prompt in read_prompts(Path(folder) / "prompts.jsonl"):
        clip = read_video(Path(folder) / f"{prompt.id}.mp4", sampling_rate=SAMPLING_RATE)
        image = np.array(load_image(prompt.image))
        clips.append(FaultyClip(prompt, clip.frames, float(clip.frame_rate), mono(clip.waveform), image))
    return clips


# --- faults: from a clip and the next one ---


def shift_audio(num_frames: int, clip: FaultyClip, other: FaultyClip) -> FaultyClip:
    """Move the audio some frames later, or earlier if negative; silence comes in."""
    offset = round(num_frames / clip.frame_rate * SAMPLING_RATE)
    padded = np.pad(clip.waveform, (max(offset, 0), max(-offset, 0)))
    return replace(clip, waveform=padded[max(-offset, 0) :][: len(clip.waveform)])


def add_noise(decibels: float, clip: FaultyClip, other: FaultyClip) -> FaultyClip:
    """Add white noise so many dB below the clip's own level."""
    noise = np.random.default_rng(SEED).standard_normal(len(clip.waveform)).astype(np.float32)
    level = np.sqrt(np.mean(clip.waveform**2)) * 10 ** (-decibels / 20)
    return replace(clip, waveform=clip.waveform + level * noise)


def hide_half(clip: FaultyClip, other: FaultyClip) -> FaultyClip:
    """Cover the right half of the image, and of the face in its middle, with grey."""
    frames = clip.frames.copy()
    frames[:, :, frames.shape[2] // 2 :] = GREY
    return replace(clip, frames=frames)


FAULTS: dict[str, Callable[[FaultyClip, FaultyClip], FaultyClip]] = {
    **{f"audio {shift:+d} frames": partial(shift_audio, shift) for shift in SHIFTS},
    "another clip's audio": lambda clip, other: replace(clip, waveform=fitted(other.waveform, len(clip.waveform))),
    "another clip's text": lambda clip, other: replace(
        clip, prompt=replace(clip.prompt, speech_text=other.prompt.speech_text)
    ),
    **{f"noise at {decibels} dB": partial(add_noise, decibels) for decibels in (20, 10, 0)},
    "silence": lambda clip, other: replace(clip, waveform=np.zeros_like(clip.waveform)),
    "frozen image": lambda clip, other: replace(clip, frames=np.repeat(clip.frames[:1], len(clip.frames), axis=0)),
    "another person's image": lambda clip, other: replace(clip, image=other.image),
    "blur": lambda clip, other: replace(clip, frames=gaussian_filter(clip.frames, (0, BLUR, BLUR, 0))),
    "half the face hidden": hide_half,
}


def fitted(waveform: np.ndarray, num_samples: int) -> np.ndarray:
    return np.pad(waveform, (0, max(num_samples - len(waveform), 0)))[:num_samples]


# --- what is expected ---

# By how much a mean must differ to have moved, and by how much it may differ where it must not.
THRESHOLDS = {
    "words": (0.3, 0.05),
    "lips-phones": (0.15, 0.05),
    "lag-phones": (0.75, 0.25),
    "lips-loudness": (0.15, 0.05),
    "lag-loudness": (0.75, 0.25),
    "faces": (0.3, 0.05),
    "face-distance": (0.08, 0.03),
    "motion": (2.0, 0.2),
    "sharpness": (0.1, 0.02),
    "loudness": (2.0, 0.5),
    "silence": (0.2, 0.05),
}
LAGS = ("lag-phones", "lag-loudness")
LIPS = ("lips-phones", "lips-loudness", *LAGS)
AUDIO = ("words", "loudness", "silence")
PICTURE = ("faces", "face-distance", "motion", "sharpness")
MUST_MOVE = {
    **{f"audio {shift:+d} frames": LIPS if abs(shift) > 1 else LAGS for shift in SHIFTS},
    "another clip's audio": ("words", "lips-phones", "lips-loudness"),
    "another clip's text": ("words",),
    "noise at 20 dB": ("silence",),
    "noise at 10 dB": ("silence",),
    "noise at 0 dB": ("words", "loudness", "silence"),
    "silence": ("words", "loudness", "silence", *LIPS),
    "frozen image": ("lips-phones", "lips-loudness", "motion"),
    "another person's image": ("face-distance",),
    "blur": ("sharpness",),
    "half the face hidden": ("faces",),
}
MUST_NOT_MOVE = {
    **{f"audio {shift:+d} frames": (*AUDIO, *PICTURE) for shift in SHIFTS},
    "another clip's audio": PICTURE,
    "another clip's text": ("lips-loudness", "lag-loudness", "loudness", "silence", *PICTURE),
    "noise at 20 dB": ("lag-phones", "lag-loudness", "loudness", *PICTURE),
    "noise at 10 dB": ("lag-loudness", *PICTURE),
    "noise at 0 dB": ("lag-loudness", *PICTURE),
    "silence": PICTURE,
    "frozen image": (*AUDIO, "faces", "sharpness"),
    "another person's image": (*AUDIO, *LIPS, "faces", "motion", "sharpness"),
    "blur": AUDIO,
    "half the face hidden": AUDIO,
}


@dataclass(frozen=True)
class Cell:
    """What a fault does to a column.

    Attributes:
        before, after: means over the clips that have a value in both; None where there are none.
        num_gone: clips that had a value before, but not with the fault.
        must_move: None for either.
        good: whether it does as it must.
    """

    before: float | None
    after: float | None
    num_gone: int
    must_move: bool | None
    good: bool


class Ruler:
    """Measures clips in memory by the plans of the profile, and the same frames, audio or texts only once."""

    def __init__(self, variants: Mapping[str, str] | None = None):
        self.plans = make_plans(choose_variants("local", variants=variants))
        self.networks: dict[str, Any] = {}
        self.found: dict[tuple, Measurement] = {}

    def measure(self, clip: FaultyClip) -> dict[str, Measurement]:
        """Return the measurement of each metric by its name."""
        return {plan.metric.name: self._measure(plan, clip) for plan in self.plans}

    def _measure(self, plan: Plan, clip: FaultyClip) -> Measurement:
        findings: dict[str, Measurement] = {}
        for each in plan.all_passes:
            key = (each.name, *(digest(clip, name) for name in each.reads))
            if key not in self.found:
                if each.network.name not in self.networks:
                    self.networks[each.network.name] = each.network.load(None, "cpu")
                subject = cast(Subject, clip)  # it has all that these passes read of one
                self.found[key] = each.run(self.networks[each.network.name], subject, findings)
            findings[each.name] = self.found[key]
        return plan.combine(clip.prompt, findings)


def digest(clip: FaultyClip, name: str) -> str:
    """Return what tells apart what passes read of clips."""
    value = {"frames": clip.frames, "audio": clip.waveform, "image": clip.image}.get(name)
    data = str(getattr(clip.prompt, name)).encode() if value is None else np.ascontiguousarray(value).data
    return hashlib.sha256(data).hexdigest()


def measure_faults(ruler: Ruler, clips: Sequence[FaultyClip]) -> dict[str, list[dict[str, Measurement]]]:
    """Return the measurements of each clip with each fault, and under "" without any."""
    found = {"": [ruler.measure(clip) for clip in clips]}
    for name, make in FAULTS.items():
        others = [*clips[1:], clips[0]]
        found[name] = [ruler.measure(make(clip, other)) for clip, other in zip(clips, others)]
    return found


def fault_table(found: Mapping[str, Sequence[Mapping[str, Measurement]]]) -> dict[str, dict[str, Cell]]:
    """Return a cell for each fault and column, of `measure_faults`."""
    columns = {column.name: name for name in found[""][0] for column in metric_named(name).columns}
    return {
        fault: {
            column: compare(
                [item[metric] for item in found[""]], [item[metric] for item in found[fault]], column, fault
            )
            for column, metric in columns.items()
        }
        for fault in FAULTS
    }


def compare(before: Sequence[Measurement], after: Sequence[Measurement], column: str, fault: str) -> Cell:
    """Return what a fault did to a column; a value that most clips no longer have has moved."""
    had = [(b, a) for b, a in zip(before, after) if b.status == Status.OK]
    both = [(b.values[column], a.values[column]) for b, a in had if a.status == Status.OK]
    num_gone = len(had) - len(both)
    mean_before, mean_after = (float(np.mean(values)) for values in zip(*both)) if both else (None, None)
    moves, stays = THRESHOLDS[column]
    difference = abs(mean_after - mean_before) if both else 0.0
    must_move = True if column in MUST_MOVE[fault] else False if column in MUST_NOT_MOVE[fault] else None
    good = True
    if must_move:
        good = difference >= moves or num_gone > len(had) / 2
    elif must_move is False:
        good = difference <= stays and not num_gone
    return Cell(mean_before, mean_after, num_gone, must_move, good)


def as_markdown(table: Mapping[str, Mapping[str, Cell]], found: Mapping[str, Sequence[Mapping]]) -> str:
    """Return the table: what is bold must move, after `=` it must not, plain it may."""
    columns = list(next(iter(table.values())))
    means: dict[str, list[float]] = {}
    for item in found[""]:
        for measurement in item.values():
            for column, value in measurement.values.items():
                means.setdefault(column, []).append(value)
    lines = ["| fault | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    lines.append("| none | " + " | ".join(f"{np.mean(means[column]):.2f}" for column in columns) + " |")
    for fault, cells in table.items():
        lines.append(f"| {fault} | " + " | ".join(_as_text(cells[column]) for column in columns) + " |")
    lines.append("| must move by | " + " | ".join(f"{THRESHOLDS[column][0]:g}" for column in columns) + " |")
    lines.append("| must not by | " + " | ".join(f"{THRESHOLDS[column][1]:g}" for column in columns) + " |")
    return "\n".join(lines)


def _as_text(cell: Cell) -> str:
    text = "none" if cell.after is None else f"{cell.after:.2f}"
    if cell.num_gone and cell.after is not None:
        text += f" ({cell.num_gone} none)"
    text = {True: f"**{text}**", False: f"= {text}", None: text}[cell.must_move]
    return text if cell.good else f"{text} WRONG"
