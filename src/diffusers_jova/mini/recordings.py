# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The clips of a corpus of spoken sentences as they lie in its files, for reports: what they show, say, and when."""
# F frames, H W rows and columns, N samples

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from ..headers import read_json, read_json_lines
from ..media import read_video
from ..nano.corpora import Corpus
from ..nano.pictures import Regions, colour_word
from ..nano.speech import SAMPLING_RATE
from .corpus import FRAME_RATE, NUM_FRAMES, ClipPlan, describe, plan_clip
from .people import COLOURS, HAIR_COLOURS
from .sentences import vocabulary
from .voices import VOICES, Phone


# Where things are in an image, over its size: top, bottom, left, right. The shirt beside the neck, which is bare.
REGIONS: Regions = {
    "wall": ((0.0, 0.3, 0.0, 0.08), (0.0, 0.3, 0.92, 1.0)),
    "hair": ((0.11, 0.17, 0.42, 0.58),),
    "shirt": ((0.95, 1.0, 0.3, 0.42), (0.95, 1.0, 0.58, 0.7)),
}
TABLES = {
    name: {word: 255 * np.array(colour) for word, colour in table.items()}
    for name, table in (("wall", COLOURS), ("hair", HAIR_COLOURS), ("shirt", COLOURS))
}


@dataclass(frozen=True)
class RecordedClip(ClipPlan):
    """A clip in a file.

    Attributes:
        phones: with times from the clip's beginning.
        path: of the file.
    """

    phones: tuple[Phone, ...]
    path: Path


def read_clips(corpus: Path, number: int, split: str = "held_out") -> list[RecordedClip]:
    """Return the first clips of a split of a corpus that make_corpus.py wrote.

    Raises:
        FileNotFoundError: If the corpus is not complete.
        ValueError: If the split has fewer clips.
    """
    path = corpus / split / "metadata.jsonl"
    if not path.is_file():
        raise FileNotFoundError(
            f"`{path}` is not there: make the corpus with training/mini/make_corpus.py, or let it finish."
        )
    rows = [row for _, row in islice(read_json_lines(path), number)]
    if len(rows) < number:
        raise ValueError(
            f"`{path}` has {len(rows)} clips, and {number} were asked for: ask for fewer, or make more with "
            "training/mini/make_corpus.py."
        )
    return [_clip_of(row, path.parent) for row in rows]


def _clip_of(row: dict, folder: Path) -> RecordedClip:
    planned = {field.name: row[field.name] for field in fields(ClipPlan) if field.name != "name"}
    planned |= {"name": row["file_name"], "words": tuple(row["words"])}
    phones = tuple(Phone(*phone) for phone in row["phones"])
    return RecordedClip(**planned, phones=phones, path=folder / row["file_name"])


def seed_of(corpus: Path) -> int:
    """Return the seed of a corpus."""
    return read_json(corpus / "corpus.json")["seed"]


def record(clip: RecordedClip) -> tuple[np.ndarray, np.ndarray]:
    """Return the frames of a clip's file, (F, H, W, 3) uint8, and its waveform, (N,) float32 at 16 kHz."""
    read = read_video(clip.path, FRAME_RATE, SAMPLING_RATE)
    return np.asarray(read.frames), np.asarray(read.waveform, np.float32).mean(axis=0)


@lru_cache(maxsize=1024)
def first_frame(path: Path) -> Image.Image:
    """Return the image at the beginning of a clip, at which nobody speaks yet."""
    return Image.fromarray(np.asarray(read_video(path, duration_s=1 / FRAME_RATE).frames[0]))


def said_by(voice: str, clips: Sequence[RecordedClip], seed: int) -> tuple[list[RecordedClip], list[np.ndarray]]:
    """Return what clips would be if another voice spoke, and their waveforms; what is seen is as before.

    Args:
        voice: of `voices.VOICES`, of people such as the clips show.
        seed: of the corpus.
    """
    changed, waveforms = [], []
    for clip in clips:
        number = int(Path(clip.name).stem.rsplit("-", 1)[1])
        plan = plan_clip("held_out", number, seed, clip.identity, voice)
        speech = plan.speech()
        changed.append(replace(clip, voice=voice, words=plan.words, onset_s=plan.onset_s, phones=speech.phones))
        waveforms.append(speech.waveform)
    return changed, waveforms


def colour_asked(clip: RecordedClip, name: str) -> str | None:
    """Return the word for the colour of "wall", "hair" or "shirt" in the caption; None where no wall is seen."""
    person = clip.person()
    return getattr(person, name) if name != "wall" or person.background == "wall" else None


colour_seen = partial(colour_word, regions=REGIONS, tables=TABLES)

MINI = Corpus(
    num_frames=NUM_FRAMES,
    words=tuple(vocabulary()),
    voices={name: voice.caption for name, voice in VOICES.items()},
    kept_s=0.96,  # where frame 12 and audio latent 30 begin
    retaken_s=(0.96, 1.92),
    record=record,
    describe=lambda clip: describe(clip.person()),
    person=lambda clip: VOICES[clip.voice].person,
    image=lambda clip: first_frame(clip.path),
    who=lambda clip: (clip.identity, VOICES[clip.voice].person),  # two people have one seed
    spoken_s=lambda clip: (clip.phones[0].start_s, clip.phones[-1].end_s),
)
