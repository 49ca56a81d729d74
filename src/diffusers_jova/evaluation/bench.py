# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""A clip of each prompt, made by `JoVAPipeline`, in a folder that `score` reads.

`SET/ID.mp4` is a clip, `SET/ID.bench.json` beside it the note of what made it: texts, image, seed, model, LoRAs and
settings. A clip stays if its note says what would make it now, and its bytes are those that were written.
"""

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..faces import FaceDetector, crop_to_face
from ..files import LONGEST_NAME, check_output, sample_weights, sync, whole_file
from ..headers import read_json
from ..images import load_image
from ..media import write_video, write_wav
from ..pipeline_folder import find_model
from ..pipelines.pipeline_jova import JoVAPipeline
from ..pipelines.prompts import is_labelled
from ..progress import progress
from ..shards import own_cache, parse_shard
from .clips import sha256_of
from .prompt_file import Prompt


logger = logging.getLogger(__name__)

FORMAT = "diffusers-jova bench 1"
NOTE = ".bench.json"
SUFFIXES = (".mp4", ".wav")
NAME = re.compile(r"[^./\\][^/\\]*")  # of a file or folder: no way out of the folder, and not hidden
SMALL = 1 << 20  # bytes: files up to this are read whole to tell models apart


@dataclass(frozen=True)
class BenchSettings:
    """What is the same for all clips.

    Attributes:
        model: folder of a pipeline, its name, or its name on the Hub.
        call: arguments of the pipeline's call, beside texts, image and noise.
        seed: of the noise, where a prompt has none of its own.
        dtype: of the weights.
        loras: files, folders or names, with their scales.
        detector: finds the face that images are cropped to; None for their centre.
        wav: whether to write the audio as a file of its own, too.
        batch_size: clips at a time.
        shard: "i/n" for the i-th of n parts.
    """

    model: str
    call: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    dtype: str | None = None
    loras: tuple[tuple[str, float], ...] = ()
    detector: FaceDetector | None = None
    wav: bool = False
    batch_size: int = 1
    shard: str = "0/1"


@dataclass(frozen=True)
class Result:
    """What became of a prompt: "made", "kept" or "failed", and then why."""

    name: str
    status: str
    reason: str = ""


@dataclass(frozen=True)
class Place:
    """Where a prompt's clip and its note lie."""

    folder: Path
    prompt: Prompt

    def path(self, suffix: str) -> Path:
        return self.folder / self.prompt.set / f"{self.prompt.id}{suffix}"

    def note(self) -> dict[str, Any] | None:
        """Return what made the clip that is there; None if `bench` did not."""
        if not self.path(NOTE).is_file():
            return None
        note = read_json(self.path(NOTE))
        return note if note.get("format") == FORMAT else None

    def remove(self) -> None:
        """Remove a clip of ours: its prompt, which fails now, does not describe it any more."""
        note = self.note()
        for name in (*note["files"], self.path(NOTE).name) if note else ():
            self.path(NOTE).with_name(name).unlink(missing_ok=True)


@dataclass(frozen=True)
class Job:
    """A clip to make.

    Attributes:
        recipe: all that it depends on, in plain values.
    """

    prompt: Prompt
    place: Place
    seed: int
    recipe: Mapping[str, Any]


def make_clips(
    prompts: Sequence[Prompt], folder: str | os.PathLike, settings: BenchSettings, load: Callable[[], JoVAPipeline]
) -> list[Result]:
    """Make the clips that are missing, or would differ, and return what became of each prompt of the shard.

    Args:
        load: returns the pipeline; it is not called if there is nothing to do.

    Raises:
        ValueError: if a name cannot be that of a file, or a clip is in the way that `bench` did not make.
        InUseError: if another run is at work in the folder.
        OSError: if the disk is full; what was made before stays and is used again.
    """
    folder, model = Path(folder), model_folder(settings.model)
    check_output(folder, {"the model": model})
    _check_names(prompts)
    index, count = parse_shard(settings.shard)
    prompts = prompts[index::count]
    results = {}
    with own_cache(folder, index, count):
        todo = []
        for prompt, job in zip(prompts, _plan(prompts, folder, settings, model)):
            if isinstance(job, Result):
                results[prompt.name] = job
            elif _is_whole(job, settings.wav):
                results[prompt.name] = Result(prompt.name, "kept")
            else:
                todo.append(job)
        logger.info("%d clips to make, %d are there", len(todo), len(prompts) - len(todo))
        results |= {result.name: result for result in _make_all(todo, settings, load)}
        for prompt in prompts:
            if results[prompt.name].status == "failed":
                Place(folder, prompt).remove()
        in_order = [results[prompt.name] for prompt in prompts]
        _note_results(folder / ("bench.json" if count == 1 else f"bench-{index}-of-{count}.json"), in_order)
        sync(folder)
    return in_order


# --- what makes a clip ---


def model_folder(model: str) -> Path:
    """Return the folder of a model, which is downloaded first if it is on the Hub."""
    found = find_model(model)
    return Path(found) if Path(found).is_dir() else Path(JoVAPipeline.download(found))


def hash_model(folder: Path) -> str:
    """Return what tells the models in two folders apart: small files, and pieces of each tensor of the large ones."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_dir() or path.suffix == ".md" or any(part.startswith(".") for part in name.parts):
            continue
        if path.suffix == ".safetensors" and path.stat().st_size > SMALL:
            parts = sample_weights(path)
        else:
            parts = iter([sha256_of(path).encode()])
        for part in (name.as_posix().encode(), *parts):
            digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def _plan(prompts: Sequence[Prompt], folder: Path, settings: BenchSettings, model: Path) -> Iterator[Job | Result]:
    """Yield the job of each prompt, or why there is none, after a look at all places."""
    for prompt in prompts:
        _check_is_ours(Place(folder, prompt))
    same = {
        "model": hash_model(model),
        "loras": [[sha256_of(lora) if Path(lora).exists() else lora, scale] for lora, scale in settings.loras],
        "dtype": settings.dtype,
        "crop": "centre" if settings.detector is None else "face",
        "call": dict(settings.call),
    }
    for prompt in prompts:
        try:
            image = None if prompt.image is None else sha256_of(prompt.image)
        except OSError as error:
            yield Result(prompt.name, "failed", f"the image `{prompt.image}` cannot be read: {error}")
            continue
        seed = settings.seed if prompt.seed is None else prompt.seed
        recipe = {**same, "texts": texts_of(prompt), "image": image, "seed": seed}
        yield Job(prompt, Place(folder, prompt), seed, json.loads(json.dumps(recipe)))


def texts_of(prompt: Prompt) -> dict[str, str]:
    """Return the texts of the pipeline's call: a prompt with labelled lines holds all of them."""
    if is_labelled(prompt.prompt):
        return {"prompt": prompt.prompt, "audio_prompt": "", "transcript": ""}
    audio_prompt = ", ".join(text.strip() for text in prompt.audio_prompt if text.strip())
    return {"prompt": prompt.prompt, "audio_prompt": audio_prompt, "transcript": prompt.speech_text}


# --- what is there ---


def _check_names(prompts: Sequence[Prompt]) -> None:
    for prompt in prompts:
        for name in filter(None, (prompt.id, prompt.set)):
            if not NAME.fullmatch(name) or not name.isprintable() or len(name.encode()) > LONGEST_NAME:
                raise ValueError(
                    f"{name!r} of a prompt cannot be the name of a clip or its folder: it must not hold / or \\ or "
                    f"control characters, begin with a dot, or be longer than {LONGEST_NAME} bytes."
                )


def _check_is_ours(place: Place) -> None:
    """Raise ValueError if a file that `score` would take for the clip's is there, and `bench` did not write it."""
    note = place.note() or {"files": {}}
    for path in map(place.path, SUFFIXES):
        if path.exists() and path.name not in note["files"]:
            raise ValueError(f"`{path}` is in the way, and `bench` did not make it: choose another --output_dir.")


def _is_whole(job: Job, wav: bool) -> bool:
    """Whether the clip is there, whole, and what would be made now."""
    note = job.place.note()
    if note is None or note["recipe"] != job.recipe:
        return False
    wanted = [job.place.path(suffix) for suffix in SUFFIXES if suffix == ".mp4" or wav]
    there = {path for path in map(job.place.path, SUFFIXES) if path.is_file()}
    return there >= set(wanted) and all(sha256_of(path) == note["files"].get(path.name) for path in there)


def _note_results(path: Path, results: Sequence[Result]) -> None:
    rows = [vars(result) for result in results]
    with whole_file(path, writer="") as partial:
        content = json.dumps({"format": FORMAT, "prompts": rows}, indent=1, ensure_ascii=False)
        partial.write_text(content, encoding="utf-8")


# --- making them ---


def _make_all(jobs: Sequence[Job], settings: BenchSettings, load: Callable[[], JoVAPipeline]) -> Iterator[Result]:
    if not jobs:
        return
    pipe = load()
    pipe.set_progress_bar_config(disable=True)
    batches = list(_batches(jobs, settings.batch_size))
    for batch in progress(batches, "Making clips", len(batches)):
        yield from _make(pipe, batch, settings)


def _batches(jobs: Sequence[Job], size: int) -> Iterator[list[Job]]:
    """Yield jobs that go into one call: all with an image, or all without."""
    for with_image in (True, False):
        same = iter([job for job in jobs if (job.prompt.image is not None) is with_image])
        while batch := list(islice(same, size)):
            yield batch


def _make(pipe: JoVAPipeline, jobs: list[Job], settings: BenchSettings) -> Iterator[Result]:
    """Yield what becomes of jobs that are made in one call; if it fails, they are tried one by one."""
    started = time.perf_counter()
    try:
        output = _call(pipe, jobs, settings)
        for index, job in enumerate(jobs):
            _write(job, output, index, settings.wav, (time.perf_counter() - started) / len(jobs))
    except ValueError as error:  # others, such as a full disk, concern all clips: they end the run
        if len(jobs) > 1:
            for job in jobs:
                yield from _make(pipe, [job], settings)
            return
        logger.warning("%s: %s", jobs[0].prompt.name, error)
        yield Result(jobs[0].prompt.name, "failed", str(error))
        return
    yield from (Result(job.prompt.name, "made") for job in jobs)


def _call(pipe: JoVAPipeline, jobs: Sequence[Job], settings: BenchSettings):
    texts = [texts_of(job.prompt) for job in jobs]
    call = {name: [each] * len(jobs) if isinstance(each, str) else each for name, each in settings.call.items()}
    images = [_image(pipe, job, settings) for job in jobs if job.prompt.image is not None]
    return pipe(
        **{name: [each[name] for each in texts] for name in texts[0]},
        **call,
        image=images or None,
        generator=[torch.Generator().manual_seed(job.seed) for job in jobs],
        output_type="np",
    )


def _image(pipe: JoVAPipeline, job: Job, settings: BenchSettings) -> Image.Image:
    try:
        image = load_image(job.prompt.image)
    except OSError as error:
        raise ValueError(f"the image `{job.prompt.image}` cannot be read: {error}") from error
    if settings.detector is None:
        return image
    height, width = (settings.call.get(name) or pipe.config[name] for name in ("height", "width"))
    return crop_to_face(image, height, width, settings.detector)


def _write(job: Job, output, index: int, wav: bool, seconds: float) -> None:
    """Write a clip, and its note before it gets its name: what has no note is not ours."""
    path = job.place.path
    path(".mp4").parent.mkdir(parents=True, exist_ok=True)
    audio = None if output.audio is None else output.audio[index]
    with ExitStack() as stack:
        suffixes = SUFFIXES if wav else SUFFIXES[:1]
        partials = {suffix: stack.enter_context(whole_file(path(suffix), writer="")) for suffix in suffixes}
        write_video(partials[".mp4"], output.frames[index], output.frame_rate, audio, output.audio_sampling_rate)
        if not wav:
            path(".wav").unlink(missing_ok=True)  # of the clip that was here: `score` would listen to it
        else:
            write_wav(partials[".wav"], audio, output.audio_sampling_rate)
        files = {path(suffix).name: sha256_of(partial) for suffix, partial in partials.items()}
        note = {"format": FORMAT, "recipe": job.recipe, "files": files, "seconds": round(seconds, 3)}
        with whole_file(path(NOTE), writer="") as partial:
            partial.write_text(json.dumps(note, indent=1, ensure_ascii=False), encoding="utf-8")
