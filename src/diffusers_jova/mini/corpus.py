# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The corpus of spoken sentences: what each clip shows and says, from a seed, and its files.

A clip is planned by its number alone, so a corpus can be made in any order and continued after an interruption.
"""

import json
import zlib
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..files import whole_file
from ..headers import read_json_lines
from ..media import write_video, write_wav
from ..nano.corpus import FRAME_RATE, MARGIN_S, fill_corpus, in_silence, write_metadata
from ..nano.speech import SAMPLING_RATE
from .mouths import STRESS, VOWELS, both_sides, mouth_units
from .people import PEOPLE, Person
from .portraits import Portrait, Pose
from .sentences import KINDS_HELD_OUT, TABLE, draw_sentence
from .voices import HELD_OUT_VOICES, PACES, VOICES, Phone, Speech, speak


SIZE = 128  # pixels
NUM_FRAMES = 37
DURATION_S = NUM_FRAMES / FRAME_RATE
FASTER = (1.0, 1.12, 1.25, 1.4)  # times its pace: what is tried until a sentence fits

AUDIO_SPLITS = ("speech", "moments")  # audio alone, to train on; the second is the first one at other moments
SPLITS = ("train", "held_out", *AUDIO_SPLITS)
JOINT = ("train", "moments")  # what all stages but the first one learn from
NUM_MOMENTS = 3  # at which each recording of "speech" begins again
NUM_PEOPLE = 600  # in the training clips
HELD_OUT_PEOPLE = range(100_000, 100_100)  # their seeds
CLIPS_OF_ONE = 4  # clips in a row show one person: hair and shadows are made once

EARLY_S = 0.1  # within which audio alone begins: else it is learnt by heart, docs/decisions.md
LATE_S = 0.05  # that Kokoro's times of phones are behind its audio: docs/decisions.md
BLINKS_PER_S = 0.3
BEAT_S = 0.14  # how long brows and head follow a stressed syllable


@dataclass(frozen=True)
class ClipPlan:
    """What a clip shows and says.

    Attributes:
        name: of the file.
        identity: seed of the person.
        voice: a key of `voices.VOICES`.
        words: said, in order.
        held_out: why the sentence is not in training: "sentence", "place" (a word never seen there), or None.
        pace: see `voices.speak`.
        onset_s: when speech begins.
        video_caption, audio_caption: may be neutral, the second empty.
        motion: seed of head, eyes and brows.
    """

    name: str
    identity: int
    voice: str
    words: tuple[str, ...]
    held_out: str | None
    pace: float
    onset_s: float
    video_caption: str
    audio_caption: str
    motion: int

    @property
    def transcript(self) -> str:
        return " ".join(self.words)

    def person(self) -> Person:
        return Person.from_seed(self.identity, person=VOICES[self.voice].person)

    def speech(self) -> Speech:
        """Return the whole clip's audio, (N,) at 16 kHz, and its phones with times from the clip's beginning."""
        return place_speech(speak(self.voice, self.words, self.pace), self.onset_s)


def place_speech(said: Speech, onset_s: float) -> Speech:
    """Return speech in the silence of a whole clip, from a moment on; what does not fit is cut off."""
    phones = (Phone(phone.symbol, phone.start_s + onset_s, phone.end_s + onset_s) for phone in said.phones)
    return Speech(in_silence(said.waveform, onset_s + LATE_S, DURATION_S), tuple(phones))


def plan_clip(
    split: str, index: int, seed: int = 0, identity: int | None = None, voice: str | None = None
) -> ClipPlan:
    """Return what the `index`-th clip of a split shows and says.

    Args:
        split: "train"; "speech", audio alone that begins at once; "moments", each of these at `NUM_MOMENTS` others; or
            "held_out": people whom no training clip shows, who say sentences that none says (the even numbers) or
            words at places where none has them (the odd ones).
        seed: of the corpus.
        identity, voice: of the one person whom all clips show and let speak; by default many.
    """
    if split == "moments":
        return _begin_elsewhere(plan_clip("speech", index // NUM_MOMENTS, seed, identity, voice), index, seed)
    rng = np.random.default_rng([seed, 17, SPLITS.index(split), index])
    held_out = KINDS_HELD_OUT[index % len(KINDS_HELD_OUT)] if split == "held_out" else None
    of_one = np.random.default_rng([seed, 18, SPLITS.index(split), index // CLIPS_OF_ONE])
    drawn_person = PEOPLE[of_one.integers(len(PEOPLE))]
    drawn_identity = of_one.choice(HELD_OUT_PEOPLE) if split == "held_out" else of_one.integers(NUM_PEOPLE)
    voices = [name for name in VOICES if VOICES[name].person == drawn_person and name not in HELD_OUT_VOICES]
    drawn_voice = voices[rng.integers(len(voices))]
    voice = drawn_voice if voice is None else voice
    identity = int(drawn_identity if identity is None else identity)
    usual_pace, place = rng.uniform(*PACES), rng.uniform()
    while True:
        _, words = draw_sentence(rng, held_out)
        for factor in FASTER:
            pace = round(usual_pace * factor, 3)
            spare_s = _spare_s(voice, words, pace)
            if spare_s >= 0:
                break
        if spare_s >= 0:
            break
    person = Person.from_seed(identity, person=VOICES[voice].person)
    video_caption, audio_caption = make_captions(person, VOICES[voice].caption, rng)
    is_seen = split != "speech"
    latest_s = spare_s if is_seen else min(spare_s, EARLY_S)
    return ClipPlan(
        name=f"{split}-{index:05d}.{'mp4' if is_seen else 'wav'}",
        identity=identity,
        voice=voice,
        words=words,
        held_out=held_out,
        pace=pace,
        onset_s=MARGIN_S + float(place * latest_s),
        video_caption=video_caption if is_seen else "",
        audio_caption=audio_caption,
        motion=int(rng.integers(2**31)),
    )


def _spare_s(voice: str, words: tuple[str, ...], pace: float) -> float:
    """Return what of a clip is left beside words and margins; less than nothing if they do not fit."""
    return DURATION_S - 2 * MARGIN_S - len(speak(voice, words, pace).waveform) / SAMPLING_RATE


def _begin_elsewhere(plan: ClipPlan, index: int, seed: int) -> ClipPlan:
    """Return a plan of "speech" as one of "moments"; those of one recording share out where it may begin."""
    rng = np.random.default_rng([seed, 19, index])
    place = (index % NUM_MOMENTS + rng.uniform()) / NUM_MOMENTS
    onset_s = MARGIN_S + float(place * _spare_s(plan.voice, plan.words, plan.pace))
    return replace(plan, name=f"moments-{index:05d}.wav", onset_s=onset_s)


def describe(person: Person) -> str:
    """Return the caption that names all that captions can name."""
    background = f"a {person.wall} wall" if person.background == "wall" else BACKGROUND_WORDS[person.background]
    return f"{_hair(person)}, in {_article(person.shirt)} {person.clothes}, before {background}."


BACKGROUND_WORDS = {
    "window": "a window",
    "bookshelf": "a bookshelf",
    "garden": "a garden",
    "evening lights": "evening lights",
}


def _article(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _hair(person: Person) -> str:
    extras = [] if person.beard == "no beard" else ["stubble" if person.beard == "stubble" else "a beard"]
    extras += ["glasses"] if person.glasses else []
    things = [f"{person.hair_style} {person.hair} hair", *extras]
    return f"A {person.person} with {' and '.join([', '.join(things[:-1]), things[-1]] if things[1:] else things)}"


def make_captions(person: Person, voice_caption: str, rng: np.random.Generator) -> tuple[str, str]:
    """Return a video and an audio caption: of everything, of a part, or neutral; the second may be empty."""
    choice = rng.uniform()
    if choice < 0.6:
        video_caption = describe(person)
    elif choice < 0.75:
        video_caption = f"{_hair(person)} is talking."
    elif choice < 0.9:
        video_caption = f"A {person.person} is talking, in {_article(person.shirt)} {person.clothes}."
    else:
        video_caption = "A person is talking."
    return video_caption, voice_caption if rng.uniform() < 0.75 else ""


def make_poses(phones: tuple[Phone, ...], motion: int) -> list[Pose]:
    """Return how the head looks in each frame: the mouth follows the phones, head, eyes and brows a seed.

    Args:
        phones: with times from the clip's beginning.
    """
    rng = np.random.default_rng(motion)
    seconds = (np.arange(NUM_FRAMES) + 0.5) / FRAME_RATE
    yaw, pitch, roll, x, y = (
        scale * sum(np.sin(2 * np.pi * (rate * seconds + rng.uniform())) for rate in rng.uniform(0.1, 0.5, 2))
        for scale in (0.06, 0.025, 0.02, 0.006, 0.004)
    )
    yaw = yaw + rng.uniform(-0.12, 0.12)
    beats = _beats(phones, seconds)
    pitch = pitch + 0.045 * beats
    brows = np.clip(0.25 * rng.uniform() + rng.uniform(0, 0.5) * beats, 0, 1)
    lids = _blinks(rng)
    smile = rng.uniform(0.0, 0.3)
    looks = np.cumsum(rng.uniform(size=NUM_FRAMES) < 0.06)  # now and then the eyes jump
    aims = rng.normal(0, 0.05, (looks.max() + 1, 2))[looks]
    frames = []
    for k, units in enumerate(mouth_units(phones, NUM_FRAMES, FRAME_RATE)):
        more = both_sides({"eyeBlink": float(max(lids[k], 0.05)), "mouthSmile": smile, "eyeSquint": 0.4 * smile})
        more |= {
            "browInnerUp": float(brows[k]),
            "browOuterUpLeft": float(brows[k]),
            "browOuterUpRight": float(brows[k]),
        }
        units = {name: units.get(name, 0.0) + more.get(name, 0.0) for name in units | more}
        gaze = (float(aims[k, 0] - 0.8 * yaw[k]), float(aims[k, 1] + 0.8 * pitch[k]))  # into the camera, about
        frames.append(Pose(units, float(yaw[k]), float(pitch[k]), float(roll[k]), gaze, float(x[k]), float(y[k])))
    return frames


def _beats(phones: tuple[Phone, ...], seconds: np.ndarray) -> np.ndarray:
    """Return how near a stressed syllable is at moments, 0 to 1."""
    stressed = [
        (after.start_s + after.end_s) / 2
        for mark, after in zip(phones, phones[1:])
        if mark.symbol == STRESS[0] and after.symbol in VOWELS
    ]
    return np.max([np.exp(-(((seconds - moment) / BEAT_S) ** 2)) for moment in stressed] or [0 * seconds], axis=0)


def _blinks(rng: np.random.Generator) -> np.ndarray:
    """Return how closed the lids are in each frame."""
    lids = np.zeros(NUM_FRAMES)
    for start in np.flatnonzero(rng.uniform(size=NUM_FRAMES - 2) < BLINKS_PER_S / FRAME_RATE):
        lids[start : start + 3] = np.maximum(lids[start : start + 3], (0.7, 1.0, 0.35))
    return lids


def make_frames(plan: ClipPlan, size: int) -> np.ndarray:
    """Return a clip's frames, (NUM_FRAMES, size, size, 3) uint8."""
    portrait = _portrait(plan.person(), size)
    return np.stack([portrait.draw(pose) for pose in make_poses(plan.speech().phones, plan.motion)])


_portrait = lru_cache(maxsize=2)(Portrait)  # of the clips in a row that show one person


def make_corpus(
    output_dir: str | Path,
    num_train: int,
    num_held_out: int,
    seed: int = 0,
    num_workers: int = 2,
    identity: int | None = None,
    voice: str | None = None,
    num_speech: int = 0,
) -> None:
    """Write the clips and a metadata.jsonl of each split into output_dir/train, output_dir/held_out and, of audio
    alone, output_dir/speech and output_dir/moments; and output_dir/joint/metadata.jsonl, see `write_joint`.

    A clip that is there is kept, so an interrupted corpus is continued; metadata come last.

    Args:
        identity, voice: See `plan_clip`.
        num_speech: recordings that begin at once; beside each there are `NUM_MOMENTS` that begin anywhere.

    Raises:
        ValueError: If `output_dir` holds a corpus of another seed, person or table of words, or no voice is so named.
    """
    words = f"{zlib.crc32(TABLE.read_bytes()):08x}"  # another table makes other sentences
    wanted: dict[str, int | str] = {"corpus": "sentences", "seed": seed, "words": words}
    numbers = dict(zip(SPLITS, (num_train, num_held_out, num_speech, NUM_MOMENTS * num_speech)))
    fill_corpus(output_dir, numbers, wanted, write_clip, num_workers, VOICES, identity, voice)
    write_joint(Path(output_dir))


def write_joint(corpus: Path) -> None:
    """Write joint/metadata.jsonl, which names the clips of train/ and the recordings of moments/: one cache has both.

    With the clips alone, each of which begins at one moment, a model would learn by heart what they say.
    """
    rows = []
    for split in JOINT:
        for _, row in read_json_lines(corpus / split / "metadata.jsonl"):
            rows.append(row | {"file_name": f"../{split}/{row['file_name']}"})
    (corpus / "joint").mkdir(exist_ok=True)
    write_metadata(corpus / "joint", rows)


def write_clip(folder: Path, split: str, index: int, seed: int, identity: int | None, voice: str | None) -> dict:
    """Write a clip, unless it is there, and return its row of the metadata, which is kept in the folder rows/."""
    kept = folder.parent / "rows" / f"{split}-{index:05d}.json"
    if kept.is_file():
        row = json.loads(kept.read_text(encoding="utf-8"))
        if (folder / row["file_name"]).is_file():
            return row
    plan = plan_clip(split, index, seed, identity, voice)
    speech = plan.speech()
    if split in AUDIO_SPLITS:
        write_wav(folder / plan.name, speech.waveform, SAMPLING_RATE, ai_generated=False)
    else:
        frames = make_frames(plan, SIZE)
        write_video(folder / plan.name, frames, FRAME_RATE, speech.waveform, SAMPLING_RATE, ai_generated=False)
    row = metadata(plan, speech)
    kept.parent.mkdir(exist_ok=True)
    with whole_file(kept) as path:
        path.write_text(json.dumps(row), encoding="utf-8")
    return row


def metadata(plan: ClipPlan, speech: Speech) -> dict:
    """Return the row of a clip: the three texts that training reads, and what a report reads, phones among it."""
    row = asdict(plan)
    phones = [(phone.symbol, round(phone.start_s, 4), round(phone.end_s, 4)) for phone in speech.phones]
    named = {"file_name": row.pop("name"), "transcript": plan.transcript}
    return {**named, **row, "person": plan.person().person, "phones": phones}
