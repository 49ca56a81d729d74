# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The sentences of jova-mini: words by the place that they can take, patterns of four to six places, what is held out.

Which candidates became words is measured: words.csv says how often a recogniser heard each of them on the corpus's
own voices, and how it is pronounced. training/mini/measure_words.py writes that file.
"""

import csv
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..files import whole_file
from ..vocabulary import unknown_words


CANDIDATES = {  # by kind, before any measurement; all of them are in pocketsphinx's dictionary
    "name": "anna peter maria david robert susan michael laura kevin helen martin alice jason emily victor nancy "
    "oliver julia brian daniel",
    "handles": "sees finds buys sells wants needs likes brings draws counts carries paints keeps loses takes sends "
    "holds washes watches remembers",
    "give": "show give sell send bring",
    "number": "two three four five six seven eight nine ten eleven twelve twenty thirty",
    "colour": "red green blue yellow purple orange black white brown pink golden silver",
    "quality": "small heavy little broken beautiful wooden simple ancient empty expensive famous modern",
    "mood": "happy hungry lazy quiet clever friendly gentle angry tired young",
    "things": "flowers apples houses bottles letters windows baskets pencils candles lemons carrots potatoes tomatoes "
    "onions cookies jackets mirrors hammers ladders blankets bicycles umbrellas guitars pianos photographs "
    "newspapers telephones computers boxes shoes books cups chairs tables keys stones feathers",
    "being": "horse rabbit elephant monkey turtle spider dolphin chicken donkey tiger penguin teacher doctor farmer "
    "sailor baker student singer dentist captain painter driver gardener",
    "moves": "runs sleeps waits dances jumps swims sings smiles works laughs whispers arrives travels disappears",
    "manner": "slowly quickly quietly outside everywhere together again alone upstairs downtown",
    "time": "today tomorrow tonight often later before",
    "place": "door kitchen garden coffee dinner music piano river mountain weather ticket train bridge castle ocean "
    "island",
    "whose": "the my your every",
    "hello": "hello goodbye",
    "please": "please",
    "maybe": "maybe",
    "is": "is",
}
PATTERNS = (
    ("name", "handles", "number", "colour", "things"),  # anna sees three red flowers
    ("name", "handles", "number", "quality", "things", "time"),  # peter buys two heavy mirrors tonight
    ("whose", "mood", "being", "moves", "manner"),  # the lazy elephant dances upstairs
    ("whose", "colour", "being", "moves", "manner", "time"),  # my green turtle swims slowly today
    ("please", "give", "name", "number", "things"),  # please bring maria seven candles
    ("hello", "name", "whose", "place", "is", "quality"),  # hello david your garden is beautiful
    ("maybe", "name", "handles", "colour", "things"),  # maybe susan paints blue umbrellas
    ("whose", "being", "handles", "number", "things"),  # every sailor counts nine bottles
)
TABLE = Path(__file__).with_name("words.csv")
LEAST_HEARD = 0.8  # of the recordings of a word, over all voices: the others are not in the vocabulary
ONE_IN_HELD_OUT = 8  # of the sentences, and of the places of the words that have two places or more
KINDS_HELD_OUT = ("sentence", "place")


@dataclass(frozen=True)
class Word:
    """A word that was measured.

    Attributes:
        text: lower case.
        kind: which place it can take, a key of `CANDIDATES`.
        american, british: how it is pronounced, in the International Phonetic Alphabet as espeak-ng writes it.
        recordings: by voice, in how many recordings the recogniser heard it, and how many there were.
    """

    text: str
    kind: str
    american: str
    british: str
    recordings: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def heard(self) -> float:
        """The part of the recordings in which it was heard; 0 without any."""
        heard, said = (sum(counts) for counts in zip((0, 0), *self.recordings.values()))
        return heard / max(said, 1)

    @property
    def passes(self) -> bool:
        return self.heard >= LEAST_HEARD


COLUMNS = ("word", "kind", "american", "british")  # of the table; one more for each voice, "heard/said"


def read_words(path: Path = TABLE) -> dict[str, Word]:
    """Return the candidates of a table, by their text."""
    words = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            text, kind, american, british = (row.pop(column) for column in COLUMNS)
            words[text] = Word(text, kind, american, british)
            for voice, counts in row.items():
                heard, said = map(int, counts.split("/"))
                words[text].recordings[voice] = (heard, said)
    return words


def write_words(words: Iterable[Word], path: Path = TABLE) -> None:
    """Write a table of words that were measured with the same voices."""
    words = list(words)
    with whole_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, *words[0].recordings])
        for word in words:
            counts = [f"{heard}/{said}" for heard, said in word.recordings.values()]
            writer.writerow([word.text, word.kind, word.american, word.british, *counts])


@lru_cache(maxsize=1)
def measured_words() -> dict[str, Word]:
    """Return all candidates as they were measured, by their text, those that were not heard among them."""
    return read_words()


def vocabulary() -> dict[str, Word]:
    """Return the words that passed, by their text."""
    return {text: word for text, word in measured_words().items() if word.passes}


@lru_cache(maxsize=1)
def words_by_kind() -> dict[str, tuple[str, ...]]:
    """Return the words that passed, by the kind of place that they can take."""
    words = vocabulary().values()
    return {kind: tuple(word.text for word in words if word.kind == kind) for kind in CANDIDATES}


def is_held_out_place(word: str, pattern: int, place: int) -> bool:
    """Return whether no training sentence of a pattern has a word at a place, though others have it elsewhere."""
    kind = PATTERNS[pattern][place]
    if sum(kind in kinds for kinds in PATTERNS) < 2 or len(words_by_kind()[kind]) < ONE_IN_HELD_OUT:
        return False
    return _draw(f"{word} {pattern} {place}") == 0


def kind_held_out(pattern: int, words: tuple[str, ...]) -> str | None:
    """Return why a sentence is kept out of training: "place", "sentence", or None if it is not."""
    if any(is_held_out_place(word, pattern, place) for place, word in enumerate(words)):
        return "place"
    return "sentence" if _draw(" ".join(words)) == 0 else None


def _draw(text: str) -> int:
    return zlib.crc32(text.encode()) % ONE_IN_HELD_OUT  # the same on every machine


def draw_sentence(rng: np.random.Generator, held_out: str | None = None) -> tuple[int, tuple[str, ...]]:
    """Return a pattern's number and the words of a sentence in it.

    Args:
        held_out: see `kind_held_out`: what the sentence must be; None for one to train on.
    """
    choices = words_by_kind()
    while True:
        pattern = int(rng.integers(len(PATTERNS)))
        words = tuple(str(rng.choice(choices[kind])) for kind in PATTERNS[pattern])
        if kind_held_out(pattern, words) == held_out:
            return pattern, words


def check_words(text: str) -> tuple[str, ...]:
    """Return the words of a text, all of them in the vocabulary.

    Raises:
        ValueError: For words that are not, with those that are nearest to them in spelling.
    """
    words = tuple(text.lower().split())
    if unknown := unknown_words(words, vocabulary()):
        raise ValueError(f"Not among the {len(vocabulary())} words of the corpus: {unknown}. `{TABLE}` lists all.")
    return words
