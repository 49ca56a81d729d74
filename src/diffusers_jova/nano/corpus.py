# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The corpus of talking digits: what each clip shows and says, from a seed, and its files.

A clip is planned by its number alone, so a corpus can be made in any order and continued after an interruption.
Speech begins at a random moment and pauses at random: clips that all start together share an envelope, and then any
two of them look in sync.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..evaluation.loudness import frame_loudness
from ..files import whole_file
from ..media import write_video
from .faces import Identity, Pose, draw_face
from .speech import DIGITS, FASTEST, PACES, PITCHES, SAMPLING_RATE, VOICES, frame_brightness, speak


SIZE = 128  # pixels of the files: twice what the model sees, and enough for dlib
NUM_FRAMES, FRAME_RATE = 21, 12.5
DURATION_S = NUM_FRAMES / FRAME_RATE

LENGTHS = (0.2, 0.4, 0.4)  # how many clips say one, two, three digits
COMMA = 0.3  # how often there is a pause between two digits
MARGIN_S = 0.04  # silence at least, before and after

NUM_IDENTITIES = 400  # in the training clips
HELD_OUT_IDENTITIES = range(10_000, 10_100)  # their seeds
ONE_IN_HELD_OUT = 8  # of the pairs and triples of digits

SPLITS = ("train", "held_out")


@dataclass(frozen=True)
class ClipPlan:
    """What a clip shows and says.

    Attributes:
        name: of the file.
        identity: seed of the face.
        voice: of flite.
        digits: said, in order.
        text: what flite reads, with a comma where there is a pause.
        pace, pitch: see `speech.speak`.
        onset_s: when speech begins.
        video_caption, audio_caption: may be neutral, the second empty.
        motion: seed of head, lids.
    """

    name: str
    identity: int
    voice: str
    digits: tuple[int, ...]
    text: str
    pace: float
    pitch: float
    onset_s: float
    video_caption: str
    audio_caption: str
    motion: int

    @property
    def transcript(self) -> str:
        return " ".join(DIGITS[digit] for digit in self.digits)

    def face(self) -> Identity:
        return Identity.from_seed(self.identity, person=VOICES[self.voice].person)


def is_held_out(digits: tuple[int, ...]) -> bool:
    """Return whether a combination of digits is kept out of training: one in eight of the pairs and triples."""
    if len(digits) < 2:
        return False
    return np.random.default_rng([len(digits), *digits]).integers(ONE_IN_HELD_OUT) == 0


def plan_clip(
    split: str, index: int, seed: int = 0, identity: int | None = None, voice: str | None = None
) -> ClipPlan:
    """Return what the `index`-th clip of a split shows and says.

    Args:
        split: "train", or "held_out": combinations of digits and faces that no training clip has.
        seed: of the corpus.
        identity, voice: of the one person whom all clips show and let speak; by default many.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    while True:
        length = 1 + rng.choice(3, p=LENGTHS)
        digits = tuple(int(digit) for digit in rng.integers(10, size=length))
        if is_held_out(digits) == (split == "held_out"):
            break
    drawn_voice = list(VOICES)[rng.integers(len(VOICES))]
    drawn_identity = rng.integers(NUM_IDENTITIES) if split == "train" else rng.choice(HELD_OUT_IDENTITIES)
    voice = drawn_voice if voice is None else voice
    identity = int(drawn_identity if identity is None else identity)
    usual_pace, pitch = PACES[rng.integers(len(PACES))], PITCHES[rng.integers(len(PITCHES))]
    words = [DIGITS[digit] for digit in digits]
    commas = (*(rng.uniform(size=length - 1) < COMMA), False)
    place = rng.uniform()
    with_pauses = " ".join(word + ("," if comma else "") for word, comma in zip(words, commas))
    # slow voices and long pauses may not fit: then without the pauses, then faster
    for text, pace in ((with_pauses, usual_pace), (" ".join(words), usual_pace), (" ".join(words), FASTEST)):
        spare_s = DURATION_S - 2 * MARGIN_S - len(speak(voice, text, pace, pitch)) / SAMPLING_RATE
        if spare_s >= 0:
            break
    video_caption, audio_caption = make_captions(
        Identity.from_seed(identity, person=VOICES[voice].person), VOICES[voice].caption, rng
    )
    return ClipPlan(
        name=f"{split}-{index:05d}.mp4",
        identity=identity,
        voice=voice,
        digits=digits,
        text=text,
        pace=pace,
        pitch=pitch,
        onset_s=MARGIN_S + float(place * max(spare_s, 0)),
        video_caption=video_caption,
        audio_caption=audio_caption,
        motion=int(rng.integers(2**31)),
    )


def describe(identity: Identity) -> str:
    """Return the caption that names all five words of somebody's looks."""
    return (
        f"A {identity.person} with {identity.hair_length} {identity.hair} hair, {identity.shirt} shirt, "
        f"{identity.wall} wall."
    )


def make_captions(identity: Identity, voice_caption: str, rng: np.random.Generator) -> tuple[str, str]:
    """Return a video and an audio caption: of everything, of a part, or neutral; the second may be empty."""
    choice = rng.uniform()
    if choice < 0.6:
        video_caption = describe(identity)
    elif choice < 0.7:
        video_caption = f"A {identity.person} with {identity.hair} hair is talking."
    elif choice < 0.8:
        video_caption = f"A {identity.person}, {identity.shirt} shirt, {identity.wall} wall."
    elif choice < 0.9:
        video_caption = f"A {identity.person} is talking."
    else:
        video_caption = "A person is talking."
    return video_caption, voice_caption if rng.uniform() < 0.75 else ""


def make_waveform(plan: ClipPlan) -> np.ndarray:
    """Return a clip's audio, (N,) float32 at 16 kHz."""
    return in_silence(speak(plan.voice, plan.text, plan.pace, plan.pitch), plan.onset_s, DURATION_S)


def in_silence(waveform: np.ndarray, onset_s: float, duration_s: float) -> np.ndarray:
    """Return audio (N,) at 16 kHz in the silence of a whole clip, from a moment on; what does not fit is cut off."""
    whole = np.zeros(round(duration_s * SAMPLING_RATE), np.float32)
    piece = whole[round(onset_s * SAMPLING_RATE) :][: len(waveform)]
    piece += waveform[: len(piece)]
    return whole


def make_poses(waveform: np.ndarray, motion: int, num_frames: int = NUM_FRAMES) -> list[Pose]:
    """Return how the head looks in each frame: the mouth follows the audio, lids and head a seed."""
    rng = np.random.default_rng(motion)
    loudness = frame_loudness(waveform, num_frames, FRAME_RATE, SAMPLING_RATE)
    brightness = frame_brightness(waveform, num_frames, FRAME_RATE, SAMPLING_RATE)
    opening = np.clip(loudness / max(np.percentile(loudness, 95), 1e-6), 0, 1) ** 0.7
    spread = np.where(opening > 0.15, np.tanh((brightness - 1200) / 800), 0.0)
    seconds = np.arange(num_frames) / FRAME_RATE
    x, y, turn = (
        scale * sum(np.sin(2 * np.pi * (rate * seconds + rng.uniform())) for rate in rng.uniform(0.15, 0.6, 2))
        for scale in (0.012, 0.008, 0.4)
    )
    lids = np.zeros(num_frames)
    if rng.uniform() < 0.6:  # a blink: two frames
        start = rng.integers(num_frames - 2)
        lids[start : start + 2] = (1.0, 0.6)
    return [Pose(*map(float, values)) for values in zip(opening, spread, lids, x, y, turn)]


def make_frames(plan: ClipPlan, waveform: np.ndarray, size: int = SIZE) -> np.ndarray:
    """Return a clip's frames, (num_frames, size, size, 3) uint8."""
    identity = plan.face()
    return np.stack([np.asarray(draw_face(identity, pose, size)) for pose in make_poses(waveform, plan.motion)])


def make_corpus(
    output_dir: str | Path,
    num_train: int,
    num_held_out: int,
    seed: int = 0,
    num_workers: int = 2,
    identity: int | None = None,
    voice: str | None = None,
) -> None:
    """Write the clips and a metadata.jsonl of each split into output_dir/train and output_dir/held_out.

    A clip that is there is kept, so an interrupted corpus is continued; metadata come last.

    Args:
        identity, voice: See `plan_clip`.

    Raises:
        ValueError: If `output_dir` holds a corpus of another seed or person, or there is no such voice.
    """
    numbers = dict(zip(SPLITS, (num_train, num_held_out)))
    fill_corpus(output_dir, numbers, {"seed": seed}, write_clip, num_workers, VOICES, identity, voice)


def fill_corpus(
    output_dir: str | Path,
    numbers: Mapping[str, int],
    wanted: Mapping[str, int | str],
    write: Callable[..., dict],
    num_workers: int,
    voices: Collection[str],
    identity: int | None,
    voice: str | None,
) -> None:
    """Write the clips and a metadata.jsonl of each split into a folder of its own; metadata come last.

    Args:
        numbers: of clips, by split.
        wanted: what makes this corpus, beside the person: its "seed", and what else it depends on.
        write: writes a clip into a folder, unless it is there, and returns its row of the metadata; of the folder, the
            split and the clip's number, and by name of `seed`, `identity` and `voice`.
        num_workers: processes.
        voices: that there are.
        identity, voice: See `plan_clip`.

    Raises:
        ValueError: If `output_dir` holds a corpus of something else, or no voice is so named.
    """
    if voice is not None and voice not in voices:
        raise ValueError(f"`voice` must be one of {', '.join(voices)}, got {voice!r}.")
    person = {name: value for name, value in (("identity", identity), ("voice", voice)) if value is not None}
    wanted = {**wanted, **person}
    write = partial(write, seed=wanted["seed"], identity=identity, voice=voice)
    output_dir = Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    settings = output_dir / "corpus.json"
    if settings.is_file() and (found := json.loads(settings.read_text(encoding="utf-8"))) != wanted:
        asked = ", ".join(f"{name} {value}" for name, value in wanted.items())
        raise ValueError(f"`{output_dir}` holds a corpus of {found}, not of {asked}: choose another folder.")
    with whole_file(settings) as path:
        path.write_text(json.dumps(wanted), encoding="utf-8")
    with ProcessPoolExecutor(num_workers) as pool:
        for split, number in numbers.items():
            folder = output_dir / split
            folder.mkdir(exist_ok=True)
            rows = list(pool.map(partial(write, folder, split), range(number), chunksize=4))
            write_metadata(folder, rows)


def write_metadata(folder: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the rows of clips to metadata.jsonl in a folder, whole or not at all."""
    with whole_file(folder / "metadata.jsonl") as path:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_clip(folder: Path, split: str, index: int, seed: int, identity: int | None, voice: str | None) -> dict:
    """Write a clip, unless it is there, and return its row of the metadata."""
    plan = plan_clip(split, index, seed, identity, voice)
    if not (folder / plan.name).is_file():
        waveform = make_waveform(plan)
        frames = make_frames(plan, waveform)
        write_video(folder / plan.name, frames, FRAME_RATE, waveform, SAMPLING_RATE, ai_generated=False)
    return metadata(plan)


def metadata(plan: ClipPlan) -> dict:
    """Return the row of a clip: the three texts that training reads, and the plan that the report reads."""
    row = asdict(plan)
    return {"file_name": row.pop("name"), "transcript": plan.transcript, **row}
