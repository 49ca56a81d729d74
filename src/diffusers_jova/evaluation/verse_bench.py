# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Verse-Bench's folders -> prompts that say which clip counts for which metric, as its own code has it.

The data are `dorni/Verse-Bench` on Hugging Face: `set1/NNNNN.json`, with texts and images of `set2` and `set3` in
`data/` and `clips/`. Its code expects all files of a set in one folder; both are read.
"""

import os
from pathlib import Path

from ..headers import read_json
from .prompt_file import Prompt


SETS = ("set1", "set2", "set3")
FOLDERS = ("", "data", "clips")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
# where set2's reference is not a file of audio, it is the clip's own track
AUDIO_SUFFIXES = (".wav", ".mp3", ".m4a", ".mp4")
# Verse-Bench's code (Dorniwang/Verse-Bench @5645a09, calculate_metrics.py): which sets a metric is measured on
ALWAYS = ("AS", "ID", "MS", "IS")  # IS is MOVA's, on all sets
WITH_SPEECH = ("LSE", "WER")
WITHOUT_AUDIOBOX_AND_CS = ("set3",)
WITH_REFERENCE = ("set2",)


def read_verse_bench(folder: str | os.PathLike) -> list[Prompt]:
    """Return the prompts of all sets that are there.

    Raises:
        FileNotFoundError: if no set is there.
        ValueError: if two files describe one clip, or one cannot be read.
    """
    folder = Path(folder)
    prompts = []
    for name in SETS:
        described: dict[str, Path] = {}
        for path in (path for part in FOLDERS for path in sorted((folder / name / part).glob("*.json"))):
            if path.stem in described:
                raise ValueError(f"`{described[path.stem]}` and `{path}` describe one clip: remove one of them.")
            described[path.stem] = path
        prompts += [_read_prompt(path, name, folder / name) for _, path in sorted(described.items())]
    if not prompts:
        raise FileNotFoundError(f"There is no set of Verse-Bench in `{folder}`: it should hold set1/, set2/ or set3/.")
    return prompts


def _read_prompt(path: Path, set_name: str, folder: Path) -> Prompt:
    row = read_json(path)
    speech, audio = row.get("speech_prompt") or {}, row.get("audio_prompt") or []
    text = str((speech.get("text") if isinstance(speech, dict) else speech) or "").strip()
    audio = (audio,) if isinstance(audio, str) else tuple(str(each) for each in audio)
    metrics = list(ALWAYS) + (list(WITH_SPEECH) if text else [])
    if set_name not in WITHOUT_AUDIOBOX_AND_CS:
        metrics.append("AudioBox")
        if audio:
            metrics.append("CS")
            metrics += ["FD", "KL"] if set_name in WITH_REFERENCE else []
    return Prompt(
        id=path.stem,
        set=set_name,
        prompt=str(row.get("prompt") or row.get("video_prompt") or ""),
        audio_prompt=audio,
        speech_text=text,
        language=str(row.get("language") or "en"),
        image=_find(folder, path.stem, IMAGE_SUFFIXES),
        reference_audio=_find(folder, path.stem, AUDIO_SUFFIXES) if set_name in WITH_REFERENCE else None,
        metrics=tuple(metrics),
    )


def _find(folder: Path, stem: str, suffixes: tuple[str, ...]) -> Path | None:
    for suffix in suffixes:
        for part in FOLDERS:
            if (path := folder / part / f"{stem}{suffix}").is_file():
                return path
    return None
