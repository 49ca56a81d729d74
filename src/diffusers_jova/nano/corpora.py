# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What a report asks of a corpus of talking clips, whoever talks in it."""
# F frames, H W rows and columns, N samples

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from .corpus import NUM_FRAMES, SIZE, ClipPlan, describe, make_frames, make_waveform
from .faces import Pose, draw_face
from .speech import DIGITS, SAMPLING_RATE, VOICES, speak


MODEL_SIZE = SIZE // 2  # pixels that jova-nano sees


@dataclass(frozen=True)
class Corpus:
    """A corpus, for what measures models on it. Its clips have `corpus.FRAME_RATE`, and audio at 16 kHz.

    What is asked for a clip is asked with its plan, which has at least `transcript`, `voice` and `identity`.

    Attributes:
        num_frames: of each clip.
        words: that are said, for a listener that knows no others.
        voices: what a caption says of each voice, by its name.
        kept_s: what a continuation is given of a clip, in seconds.
        retaken_s: the span that a retake makes anew. Each of these moments begins a frame and an audio latent.
        record: Returns a clip's frames, (F, H, W, 3) uint8, as large as the model makes them, and waveform, (N,).
        describe: Returns the caption that names all that captions can name.
        person: Returns the caption's word for whoever is seen, such as "woman".
        image: Returns the image of the person that the pipeline is given.
        who: Returns what only the plans of one person have in common.
        spoken_s: Returns when speech begins and when it ends.
    """

    num_frames: int
    words: tuple[str, ...]
    voices: Mapping[str, str]
    kept_s: float
    retaken_s: tuple[float, float]
    record: Callable[[Any], tuple[np.ndarray, np.ndarray]]
    describe: Callable[[Any], str]
    person: Callable[[Any], str]
    image: Callable[[Any], Image.Image]
    who: Callable[[Any], Hashable]
    spoken_s: Callable[[Any], tuple[float, float]]


def _record(plan: ClipPlan) -> tuple[np.ndarray, np.ndarray]:
    """Return a clip as the corpus has it, before any file."""
    waveform = make_waveform(plan)
    return make_frames(plan, waveform, MODEL_SIZE), waveform


def _spoken_s(plan: ClipPlan) -> tuple[float, float]:
    duration_s = len(speak(plan.voice, plan.text, plan.pace, plan.pitch)) / SAMPLING_RATE
    return plan.onset_s, plan.onset_s + duration_s


NANO = Corpus(
    num_frames=NUM_FRAMES,
    words=DIGITS,
    voices={name: voice.caption for name, voice in VOICES.items()},
    kept_s=0.64,  # where frame 8 and audio latent 20 begin
    retaken_s=(0.64, 1.28),
    record=_record,
    describe=lambda plan: describe(plan.face()),
    person=lambda plan: plan.face().person,
    image=lambda plan: draw_face(plan.face(), Pose(), MODEL_SIZE),
    who=lambda plan: plan.identity,
    spoken_s=_spoken_s,
)
