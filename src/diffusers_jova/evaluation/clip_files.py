# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Which file in a folder of a model's clips was made from which prompt.

A layout is a pattern of paths below the folder, such as `{set}/{id}/video.mp4`. The fields of `FIELDS` stand for what
a prompt says; `{height}`, `{width}`, `{seed}`, `{step}`, `{rank}`, `{counter}`, `{turn}` and `{time}` for digits; any
other name for anything but a slash.
"""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from .clips import ClipFile
from .prompt_file import Prompt


VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
AUDIO_SUFFIXES = (".wav", ".flac", ".m4a", ".mp3")
AUDIO = ("auto", "wav", "mp4")
NAME_LENGTH = 50  # characters of a prompt that Ovi and Wan put into names
NAVA_NAME_LENGTH = 20


def _ovi_name(prompt: Prompt) -> str:
    """Ovi's name of a prompt: character-ai/Ovi, ovi/utils/processing_utils.py, format_prompt_for_filename."""
    return re.sub(r"<.*?>", "", prompt.prompt).replace(" ", "_").replace("/", "_")[:NAME_LENGTH]


def _wan_name(prompt: Prompt) -> str:
    """Wan's name of a prompt: Wan-Video/Wan2.2, generate.py."""
    return prompt.prompt.replace(" ", "_").replace("/", "_")[:NAME_LENGTH]


def _nava_name(prompt: Prompt) -> str:
    """NAVA's name of a prompt: ernie-research/NAVA, nava_src/data/t2v.py; what follows its last full stop is lost."""
    return prompt.prompt[:NAVA_NAME_LENGTH].replace(" ", "_").replace("/", "_").rsplit(".", 1)[0]


FIELDS: dict[str, Callable[[Prompt], str]] = {
    "id": lambda prompt: prompt.id,
    "set": lambda prompt: prompt.set,
    "number": lambda prompt: prompt.id.lstrip("0") or "0",  # after any zeros: MOVA writes ids with 8 digits
    "image": lambda prompt: prompt.image.stem if prompt.image is not None else prompt.id,
    "ovi_prompt": _ovi_name,
    "wan_prompt": _wan_name,
    "nava_prompt": _nava_name,
}
PLACES = ("index", "set_index")  # which prompt of the file, or of its set, from 0
DIGITS = ("height", "width", "seed", "step", "rank", "counter", "turn")

# As each model's own code names its clips; of several patterns the first that finds a prompt's clip counts.
LAYOUTS = {
    # Dorniwang/UniVerse-1-code @2b9bb02, fastvideo/sample/sample_universe.py: stems of image and prompt; frames
    # beside a wav of the same name, and both in one file, with the audio encoded once more
    "universe1": (
        "{image}_{id}_h{height}_w{width}.mp4",
        "{image}_{id}_h{height}_w{width}_with_audio.mp4",
    ),
    # character-ai/Ovi @5b69b25, inference.py; `prompt` in the file of prompts is the text that Ovi was given
    "ovi": ("{ovi_prompt}_{height}x{width}_{seed}_{rank}_{counter}.mp4",),
    # Fantasy-AMAP/fantasy-talking @8c2d0c9, infer.py: stems of image and audio
    "fantasytalking": ("{image}_{audio}_{time}.mp4",),
    # Wan-Video/Wan2.2 @0610493, generate.py, where no --save_file is given
    "wan-s2v": ("{task}_{height}*{width}_{rank}_{wan_prompt}_{time}.mp4",),
    # OpenMOSS/MOVA @595a976, evaluation/scripts/convert_prompts.py and evaluation/README.md
    "mova": (
        "{set}/{number}_video_{prompt_text}_step{step}_seed{seed}.mp4",
        "{set}/{number}_{anything}.mp4",
        "{set}/{number}.mp4",
        "{number}_video_{prompt_text}_step{step}_seed{seed}.mp4",
    ),
    # ernie-research/NAVA @009b10e, inference_nava.py, nava_src/data/t2v.py: its line in the file, and the text that it
    # was given; of the turns that it makes, the first
    "nava": ("{set}/idx{set_index}_{nava_prompt}-av-0.mp4", "idx{index}_{nava_prompt}-av-0.mp4"),
}


def find_clips(
    folder: str | os.PathLike, prompts: Sequence[Prompt], layout: str | None = None, audio: str = "auto"
) -> tuple[dict[str, ClipFile], list[Path]]:
    """Return the clip of each prompt by the prompt's name, and the clips that no prompt names.

    Args:
        layout: a name of `LAYOUTS`, a pattern, or None for `ID.mp4` in any folder; where ids repeat in several sets,
            below a folder with the set's name.
        audio: "auto" hears `ID.wav` beside the clip, or else the clip's track; "wav" the one, "mp4" the other.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if a prompt has two clips, a clip two prompts, or a layout cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder `{folder}` of clips.")
    if audio not in AUDIO:
        raise ValueError(f"`audio` must be one of {', '.join(AUDIO)}, got {audio!r}.")
    references = {prompt.reference_audio.resolve() for prompt in prompts if prompt.reference_audio is not None}
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in VIDEO_SUFFIXES + AUDIO_SUFFIXES and path.is_file() and not path.name.startswith(".")
    )
    paths = [path for path in paths if path.resolve() not in references]
    videos = {path.with_suffix("") for path in paths if path.suffix.lower() in VIDEO_SUFFIXES}
    # audio beside a video of its name is the video's
    paths = [p for p in paths if p.suffix.lower() in VIDEO_SUFFIXES or p.with_suffix("") not in videos]
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    found = _by_name(names, prompts) if layout is None else _by_pattern(names, prompts, layout, audio)
    taken = set(found.values())
    clips = {name: ClipFile(path, _audio_of(path, audio)) for name, path in found.items()}
    return clips, [path for path in paths if path not in taken]


def _audio_of(path: Path, audio: str) -> Path | None:
    beside = path.with_suffix(".wav")
    if audio != "mp4" and beside.is_file():
        return beside
    return None if audio == "wav" else path


def _by_name(names: dict[str, Path], prompts: Sequence[Prompt]) -> dict[str, Path]:
    """Return the clip of each prompt whose name is the prompt's id."""
    sets = {prompt.set for prompt in prompts if prompt.set}
    by_id = defaultdict(list)
    for name, path in names.items():
        by_id[path.stem].append(name)
    found: dict[str, Path] = {}
    for prompt in prompts:
        others = sets - {prompt.set}
        candidates = [name for name in by_id[prompt.id] if not others & set(name.split("/")[:-1])]
        if len(candidates) > 1:
            own = [name for name in candidates if prompt.set in name.split("/")[:-1]]
            candidates = own or candidates
        if len(candidates) > 1:
            raise ValueError(_two_clips(prompt, candidates))
        if candidates:
            found[prompt.name] = names[candidates[0]]
    return _each_once(found)


def _by_pattern(names: dict[str, Path], prompts: Sequence[Prompt], layout: str, audio: str) -> dict[str, Path]:
    named = layout in LAYOUTS
    patterns = LAYOUTS.get(layout, (layout,))
    if not named and ("{" not in layout or not any(f"{{{name}}}" in layout for name in {*FIELDS, *PLACES} - {"set"})):
        raise ValueError(
            f"`layout` must be one of {', '.join(LAYOUTS)}, or a pattern with {{id}} such as '{{set}}/{{id}}.mp4', "
            f"got {layout!r}."
        )
    if audio == "mp4":
        patterns = sorted(patterns, key=lambda pattern: "_with_audio" not in pattern)
    claims: dict[str, list[tuple[int, int, Prompt]]] = defaultdict(list)  # by file: pattern, length of what is fixed
    for prompt, values in zip(prompts, _values(prompts)):
        for order, pattern in enumerate(patterns):
            regex, num_fixed = _compile(pattern, values, anywhere=named)
            for name in filter(regex.fullmatch, names):
                claims[name].append((order, num_fixed, prompt))
    files = defaultdict(list)
    for name, claimed in claims.items():
        order, num_fixed, _ = min(claimed, key=lambda claim: (claim[0], -claim[1]))
        prompts_of = [claim[2] for claim in claimed if claim[:2] == (order, num_fixed)]
        if len(prompts_of) > 1:
            ids = " and ".join(repr(prompt.name) for prompt in prompts_of)
            raise ValueError(
                f"The clip `{name}` may be of the prompts {ids}: rename it, or give a --layout that tells them apart."
            )
        files[prompts_of[0].name].append((order, name))
    found = {}
    for prompt in prompts:
        candidates = sorted(files[prompt.name])
        candidates = [name for order, name in candidates if order == candidates[0][0]]
        if len(candidates) > 1:
            raise ValueError(_two_clips(prompt, candidates))
        if candidates:
            found[prompt.name] = names[candidates[0]]
    return found


def _values(prompts: Sequence[Prompt]) -> Iterator[dict[str, str]]:
    """Yield what the fields of a layout are for each prompt."""
    counts: dict[str, int] = defaultdict(int)
    for index, prompt in enumerate(prompts):
        values = {name: value_of(prompt) for name, value_of in FIELDS.items()}
        yield values | {"index": str(index), "set_index": str(counts[prompt.set])}
        counts[prompt.set] += 1


def _compile(pattern: str, values: Mapping[str, str], anywhere: bool) -> tuple[re.Pattern, int]:
    """Return the regular expression of a prompt's clips, and how many characters of it the prompt says.

    Args:
        values: of the fields for this prompt.
        anywhere: whether folders may stand before the pattern.
    """
    regex, num_fixed = "(?:.*/)?" if anywhere else "", 0
    for text, name in re.findall(r"([^{}]+)|\{(\w+)\}", pattern):
        value = values.get(name, "")
        if text:
            regex += re.escape(text)
        elif value:
            regex += ("0*" if name == "number" else "") + re.escape(value)
            num_fixed += len(value)
        elif name in values and name != "set":
            return re.compile(r"(?!)"), 0  # the prompt does not say what the name would be: no clip is its
        elif name == "time":
            regex += r"\d[\d_-]*"
        else:
            regex += r"\d+" if name in DIGITS else r"[^/]+?"
    return re.compile(regex), num_fixed


def _each_once(found: dict[str, Path]) -> dict[str, Path]:
    owners: dict[Path, str] = {}
    for name, path in found.items():
        if path in owners:
            raise ValueError(
                f"The clip `{path}` may be of the prompts {owners[path]!r} and {name!r}: put clips into folders named "
                "after their sets, or give a --layout."
            )
        owners[path] = name
    return found


def _two_clips(prompt: Prompt, names: Sequence[str]) -> str:
    return (
        f"The prompt {prompt.name!r} has {len(names)} clips, such as `{names[0]}` and `{names[1]}`: keep one, or say "
        "with --layout which one counts."
    )
