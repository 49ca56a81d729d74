# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What clips were made from: a file of one JSON object a line, or the folders of Verse-Bench.

| field | what it says |
|---|---|
| `id` | the clip's name without its ending; the only field that must be there |
| `set` | `set1`, `set2`, ... or any other name; ids may repeat in different sets |
| `prompt` | the whole prompt |
| `audio_prompt` | what is heard, a text or a list of texts, of which the first counts |
| `speech_text` | the words that are spoken; empty for none |
| `language` | of the words: `en` (default), `zh`, ... |
| `image`, `reference_audio` | files, relative to the folder of the file of prompts |
| `metrics` | names of the metrics for which the clip counts; all without |
| `seed` | of the noise from which `bench` makes the clip |

Other fields are left alone: a file for another program may serve here too.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import whole_file
from ..headers import read_json_lines
from .metrics import metric_named


TEXTS = ("id", "set", "prompt", "speech_text", "language", "image", "reference_audio")


@dataclass(frozen=True)
class Prompt:
    """What a clip was made from.

    Attributes:
        audio_prompt: the texts; () for none.
        image, reference_audio: where they should be; None for none.
        metrics: for which the clip counts; None for all.
        seed: of the noise from which the clip is made; None where the prompt does not say.
    """

    id: str
    set: str = ""
    prompt: str = ""
    audio_prompt: tuple[str, ...] = ()
    speech_text: str = ""
    language: str = "en"
    image: Path | None = None
    reference_audio: Path | None = None
    metrics: tuple[str, ...] | None = None
    seed: int | None = None

    @property
    def name(self) -> str:
        """Set and id, as in the report."""
        return f"{self.set}/{self.id}" if self.set else self.id

    @property
    def audio_text(self) -> str:
        """The text of what is heard that counts, the first; "" for none. Verse-Bench has lists of one empty text."""
        return self.audio_prompt[0].strip() if self.audio_prompt else ""


def read_prompts(path: str | os.PathLike) -> list[Prompt]:
    """Return the prompts in a file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if a line cannot be read, or two have one id in one set; the message names the lines.
    """
    path = Path(path)
    prompts: list[Prompt] = []
    lines: dict[str, str] = {}
    for where, row in read_json_lines(path):
        prompt = _parse(row, where, path.parent)
        if prompt.name in lines:
            raise ValueError(f"{where} has the id {prompt.name!r} that {lines[prompt.name]} has: ids must differ.")
        lines[prompt.name] = where
        prompts.append(prompt)
    if not prompts:
        raise ValueError(f"`{path}` has no prompts: it needs a JSON object a line, with an `id` at least.")
    return prompts


def _parse(row: dict[str, Any], where: str, folder: Path) -> Prompt:
    if not row.get("id"):
        raise ValueError(
            f'{where} must be an object like {{"id": "00001", "speech_text": "..."}}, got {str(row)[:60]}.'
        )
    row = {name: value for name, value in row.items() if value is not None}
    if isinstance(row["id"], int):
        row["id"] = str(row["id"])
    for name in TEXTS:
        if not isinstance(row.get(name, ""), str):
            raise ValueError(f"{where} must have a text as `{name}`, got {row[name]!r}.")
    audio_prompt = row.get("audio_prompt", ())
    audio_prompt = (audio_prompt,) if isinstance(audio_prompt, str) else tuple(audio_prompt)
    if not all(isinstance(text, str) for text in audio_prompt):
        raise ValueError(f"{where} must have a text or a list of texts as `audio_prompt`, got {audio_prompt!r}.")
    metrics = row.get("metrics")
    if metrics is not None:
        if not isinstance(metrics, list) or not all(isinstance(name, str) for name in metrics):
            raise ValueError(f"{where} must have a list of names as `metrics`, got {metrics!r}.")
        metrics = tuple(dict.fromkeys(metric_named(name).name for name in metrics))
    seed = row.get("seed")
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63):
        raise ValueError(f"{where} must have a whole number from 0 as `seed`, got {seed!r}.")
    files = {name: folder / row[name] if row.get(name) else None for name in ("image", "reference_audio")}
    texts = {name: row.get(name, "").strip() for name in ("id", "set", "prompt", "speech_text")}
    language = row.get("language") or "en"
    return Prompt(**texts, **files, audio_prompt=audio_prompt, language=language, metrics=metrics, seed=seed)


def write_prompts(path: str | os.PathLike, prompts: Iterable[Prompt]) -> None:
    """Write a file that `read_prompts` reads."""
    with whole_file(path) as partial:
        partial.write_text(
            "".join(f"{json.dumps(row_of(p), ensure_ascii=False)}\n" for p in prompts), encoding="utf-8"
        )


def row_of(prompt: Prompt) -> dict[str, Any]:
    """Return a prompt as plain values, without what is empty."""
    row = {name: getattr(prompt, name) for name in Prompt.__dataclass_fields__}
    for name in ("image", "reference_audio"):
        row[name] = row[name] and str(Path(row[name]).absolute())
    row |= {name: list(row[name]) for name in ("audio_prompt", "metrics") if row[name] is not None}
    return {name: value for name, value in row.items() if value not in ("", None, [])}
