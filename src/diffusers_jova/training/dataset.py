# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The cache as batches: one kind of clip and one shape per batch, in an order that the seed alone decides.

B batch, C latent channels, F latent frames, H W latent rows and columns, A audio latents, T text tokens
"""

import copy
import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import BatchSampler, DataLoader, Dataset

from ..data.cache import (
    cache_setting,
    check_fingerprint,
    model_fingerprint,
    read_index,
    read_sample,
    read_shared,
    readable,
    sample_path,
    variant_suffix,
)
from ..mouth import mouth_mask
from .config import TrainingConfig
from .randomness import draw_normal, make_generator


MODALITIES = {"both": ("video", "audio"), "video": ("video",), "audio": ("audio",)}  # of each kind of clip
TEXT_SUFFIXES = ("", "_2")  # of the two text encoders


class Visit(NamedTuple):
    """One meeting with a clip. The n-th visit of a clip has its own noise, wherever and whenever it happens."""

    key: str
    number: int


@dataclass
class Sample:
    """One clip as the cache holds it, with the text that this visit reads. What its kind lacks is None."""

    visit: Visit
    frame_rate: float
    video_moments: torch.Tensor | None  # (2C, F, H, W), raw
    image_moments: torch.Tensor | None  # (2C, 1, H, W), raw; or (2C, F, H, W), with grey frames behind the image
    filler_moments: torch.Tensor | None  # likewise of a black frame, or of grey ones; None where none is needed
    mouth_mask: torch.Tensor | None  # (F, H, W) bool
    audio_moments: torch.Tensor | None  # (2C, A), raw
    prompt_embeds: torch.Tensor | None  # (T1, d1)
    prompt_embeds_2: torch.Tensor | None  # (T2, d2)


@dataclass
class Batch:
    """Samples of one kind and shape. Tensors have a leading batch axis; texts are padded, their masks say where."""

    visits: list[Visit]
    frame_rate: float
    video_moments: torch.Tensor | None  # (B, 2C, F, H, W)
    image_moments: torch.Tensor | None  # (B, 2C, 1, H, W) or (B, 2C, F, H, W)
    filler_moments: torch.Tensor | None  # likewise
    mouth_mask: torch.Tensor | None  # (B, F, H, W) bool
    audio_moments: torch.Tensor | None  # (B, 2C, A)
    prompt_embeds: torch.Tensor | None  # (B, T1, d1)
    prompt_attention_mask: torch.Tensor | None  # (B, T1) bool
    prompt_embeds_2: torch.Tensor | None  # (B, T2, d2)
    prompt_attention_mask_2: torch.Tensor | None  # (B, T2) bool
    noise: dict[str, torch.Tensor] = field(default_factory=dict)  # by `draw_noise`, where it was drawn ahead

    @property
    def kind(self) -> str:
        """ "both", "video" or "audio"."""
        if self.video_moments is None:
            return "audio"
        return "video" if self.audio_moments is None else "both"

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch with its tensors on `device`."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        moved: dict[str, Any] = {k: v.to(device) for k, v in values.items() if isinstance(v, torch.Tensor)}
        noise = {name: numbers.to(device) for name, numbers in self.noise.items()}
        return replace(self, noise=noise, **moved)


def collate(samples: Sequence[Sample], seed: int | None = None) -> Batch:
    """Return the batch of `samples`, which are of one kind and shape.

    Args:
        seed: Of the noise, which is drawn here then, by the processes that read ahead; None leaves it to the step.
    """
    columns = {item.name: [getattr(sample, item.name) for sample in samples] for item in fields(Sample)}
    tensors: dict[str, Any] = {
        name: None if columns[name][0] is None else torch.stack(columns[name])
        for name in ("video_moments", "image_moments", "filler_moments", "mouth_mask", "audio_moments")
    }
    for suffix in TEXT_SUFFIXES:
        texts = columns[f"prompt_embeds{suffix}"]
        embeds = mask = None
        if texts[0] is not None:
            embeds = pad_sequence(texts, batch_first=True)
            mask = pad_sequence([text.new_ones(len(text), dtype=torch.bool) for text in texts], batch_first=True)
        tensors |= {f"prompt_embeds{suffix}": embeds, f"prompt_attention_mask{suffix}": mask}
    batch = Batch(visits=columns["visit"], frame_rate=samples[0].frame_rate, **tensors)
    return batch if seed is None else replace(batch, noise=draw_noise(batch, seed))


def draw_noise(batch: Batch, seed: int) -> dict[str, torch.Tensor]:
    """Return "video posterior", "video noise" and the audio's, of what the batch has: standard normal, on CPU.

    Each has the shape of its latents, (B, C, F, H, W) or (B, C, A).
    """
    noise = {}
    for modality, moments in (("video", batch.video_moments), ("audio", batch.audio_moments)):
        if moments is not None:
            shape = (moments.shape[1] // 2, *moments.shape[2:])
            for purpose in (f"{modality} posterior", f"{modality} noise"):
                noise[purpose] = draw_normal(shape, batch.visits, seed, purpose)
    return noise


class CachedClips(Dataset):
    """Reads single clips of a cache, by their visit.

    Args:
        cache_dir: Folder written by `diffusers-jova preprocess`.
        branch: "joint", or "video" or "audio", which see that half of each clip only.
        seed, caption_dropout, line_dropout: Of the text that a visit reads; see `draw_lines`.
        model: Folder of the pipeline that has to have made the cache; None checks nothing.

    Raises:
        FileNotFoundError: If there is no finished cache.
        ValueError: If it was made by other models, or has nothing for this branch or for `line_dropout`.
    """

    def __init__(
        self,
        cache_dir: str | os.PathLike,
        branch: str = "joint",
        seed: int = 0,
        caption_dropout: float = 0.0,
        line_dropout: float = 0.0,
        model: str | os.PathLike | None = None,
    ):
        if model is not None:
            check_fingerprint(cache_dir, {"models": model_fingerprint(model)})
        self.cache_dir, self.branch, self.seed = cache_dir, branch, seed
        self.caption_dropout, self.line_dropout = caption_dropout, line_dropout
        wanted = ("video", "audio") if branch == "joint" else (branch,)
        by_kind = {kind: tuple(m for m in modalities if m in wanted) for kind, modalities in MODALITIES.items()}
        self.modalities = {}  # of each clip, those that it has and the branch wants
        self.rows = {}
        for row in read_index(cache_dir):
            if by_kind[row["kind"]]:
                self.rows[row["key"]], self.modalities[row["key"]] = row, by_kind[row["kind"]]
        if not self.rows:
            needed = {"video": "video", "audio": "audio", "joint": "video or audio"}[branch]
            raise ValueError(f"No clip in the cache `{cache_dir}` has {needed}, which `branch: {branch}` needs.")
        self.shared = read_shared(cache_dir)
        self.condition_fill = cache_setting(cache_dir, "condition_fill")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def kinds(self) -> set[str]:
        """The kinds of batches that come: "both", "video", "audio"."""
        return {"both" if len(modalities) == 2 else modalities[0] for modalities in self.modalities.values()}

    def subset(self, keys: Iterable[str]) -> "CachedClips":
        """Return these clips of the same cache alone."""
        chosen = copy.copy(self)
        chosen.rows = {key: self.rows[key] for key in keys}
        chosen.modalities = {key: self.modalities[key] for key in chosen.rows}
        return chosen

    def buckets(self) -> list[list[str]]:
        """Return the keys of the clips, sorted, in groups that can share a batch."""
        buckets = defaultdict(list)
        for key, row in sorted(self.rows.items()):
            shape = ["frame_rate"]
            shape += ["num_frames", "height", "width"] * ("video" in self.modalities[key])
            shape += ["num_samples"] * ("audio" in self.modalities[key])
            buckets[self.modalities[key], *(row.get(name) for name in shape)].append(key)
        return [buckets[bucket] for bucket in sorted(buckets, key=str)]

    def digest(self) -> str:
        """Return a hash of what decides the data's order: the clips, their shapes and the branch."""
        content = json.dumps([self.branch, self.buckets()])
        return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()

    def __getitem__(self, visit: Visit) -> Sample:
        row, modalities = self.rows[visit.key], self.modalities[visit.key]
        path = sample_path(self.cache_dir, visit.key)
        tensors = read_sample(self.cache_dir, visit.key)
        with readable(path):
            media = self._media(row, tensors, modalities)
        texts = self._texts(row, tensors, draw_lines(visit, self.seed, self.caption_dropout, self.line_dropout))
        return Sample(visit, float(row["frame_rate"]), **media, **texts)

    def _media(
        self, row: dict[str, Any], tensors: dict[str, torch.Tensor], modalities: tuple[str, ...]
    ) -> dict[str, torch.Tensor | None]:
        """Return the moments and the mouth's cells of a clip; None for what it lacks or the branch does not want."""
        video = dict.fromkeys(("video_moments", "image_moments", "filler_moments", "mouth_mask"))
        if "video" in modalities:
            video = {
                "video_moments": tensors["video_moments"].float(),
                "image_moments": tensors["image_moments"].float(),
                "filler_moments": self._filler_moments(row, tensors["image_moments"].shape[1]),
                "mouth_mask": self._mouth_mask(row, tensors),
            }
        audio_moments = tensors["audio_moments"].float() if "audio" in modalities else None
        return video | {"audio_moments": audio_moments}

    def _filler_moments(self, row: dict[str, Any], num_latent_frames: int) -> torch.Tensor | None:
        """Return the moments of a black frame, or of as many grey ones as the clip has; None where none is needed."""
        if self.condition_fill == "noisy":
            return None
        moments = self.shared[f"{self.condition_fill}.{row['height']}x{row['width']}"].float()
        return moments if self.condition_fill == "black" else moments[:, :num_latent_frames]

    def _mouth_mask(self, row: dict[str, Any], tensors: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the mouth's cells (F, H, W); none of them where the clip has no boxes."""
        latent_shape = tuple(tensors["video_moments"].shape[1:])
        if "mouth_boxes" not in tensors:
            return torch.zeros(latent_shape, dtype=torch.bool)
        num_frames, height = tensors["mouth_boxes"].shape[0], row["height"]
        temporal = (num_frames - 1) // (latent_shape[0] - 1) if latent_shape[0] > 1 else 4
        return mouth_mask(
            tensors["mouth_boxes"], latent_shape, spatial=height // latent_shape[1], temporal=temporal
        ).bool()

    def _texts(
        self, row: dict[str, Any], tensors: dict[str, torch.Tensor], kept: tuple[bool, bool, bool]
    ) -> dict[str, torch.Tensor | None]:
        """Return the states of both text encoders for the lines that are kept; None for an encoder that lacks."""
        variant = variant_suffix(row, kept)
        texts: dict[str, torch.Tensor | None] = {}
        for suffix in TEXT_SUFFIXES:
            name = f"prompt_embeds{suffix}"
            unconditional = self.shared.get(f"unconditional.{name}")
            if unconditional is None:
                texts[name] = None
            elif variant is None:
                texts[name] = unconditional.float()
            elif f"{name}{variant}" in tensors:
                texts[name] = tensors[f"{name}{variant}"].float()
            else:
                raise ValueError(
                    f"`{sample_path(self.cache_dir, row['key'])}` has no text with single lines left out "
                    f"(`{name}{variant}`), which `line_dropout` needs: run `diffusers-jova preprocess` again, without "
                    "--no_line_dropout_variants."
                )
        return texts


def hold_out(clips: CachedClips, number: int) -> tuple[CachedClips, CachedClips]:
    """Return the clips to train on and those that training must not see, `number` of them or a few more.

    Whole sources are held out, so that no other window of the same film is trained on; first those with all
    modalities. The sources' names alone decide which: runs with different settings are judged by the same clips.

    Raises:
        ValueError: If less than half of the clips would be left to train on.
    """
    sources = defaultdict(list)
    for key, row in sorted(clips.rows.items()):
        sources[row["source"]].append(key)

    def rank(source: str) -> tuple[int, str]:
        modalities = max(len(clips.modalities[key]) for key in sources[source])
        return -modalities, hashlib.blake2b(source.encode("utf-8", "surrogatepass")).hexdigest()

    held_out: list[str] = []
    for source in sorted(sources, key=rank):
        if len(held_out) >= number:
            break
        held_out += sources[source]
    if 2 * len(held_out) > len(clips):
        raise ValueError(
            f"`num_held_out` {number} takes {len(held_out)} of the cache's {len(clips)} clips, of {len(sources)} "
            "source(s), away from training, which is more than half (windows of one source go together): hold out "
            "fewer, or add clips."
        )
    return clips.subset(sorted(clips.rows.keys() - held_out)), clips.subset(held_out)


def draw_lines(visit: Visit, seed: int, caption_dropout: float, line_dropout: float) -> tuple[bool, bool, bool]:
    """Return which lines of the prompt a visit keeps: video caption, audio caption, transcript.

    With probability `caption_dropout` none, which is the unconditional prompt, for both branches together; else each
    line is left out with probability `line_dropout`, on its own (our choice).
    """
    caption, *lines = torch.rand(4, generator=make_generator(seed, *visit, "text")).tolist()
    return tuple(caption >= caption_dropout and line >= line_dropout for line in lines)


class StepSampler(BatchSampler):
    """Endless batches of visits for one process, a pure function of the seed and the step: resuming needs no cursor.

    An optimizer step takes `global_batch_size` clips of one bucket, in the same order whoever computes them: batch i
    of process r is its slice i · num_processes + r. Buckets are drawn in proportion to their clips; a bucket is gone
    through in an order of its own before it starts again, and a clip met for the n-th time is visit n.

    Args:
        buckets: Keys of clips that can share a batch.
        batch_size: Clips per batch and process.
        accumulation_steps: Batches per optimizer step and process.
        process_index, num_processes: Who computes.
        seed: Of the order.
        first_step: Steps that were done before.
    """

    def __init__(
        self,
        buckets: Sequence[Sequence[str]],
        batch_size: int = 1,
        accumulation_steps: int = 1,
        process_index: int = 0,
        num_processes: int = 1,
        seed: int = 0,
        first_step: int = 0,
    ):
        self.buckets, self.seed, self.first_step = buckets, seed, first_step
        self.batch_size, self.accumulation_steps = batch_size, accumulation_steps
        self.process_index, self.num_processes = process_index, num_processes
        self.weights = torch.tensor([len(bucket) for bucket in buckets], dtype=torch.float64)
        self.orders: dict[int, tuple[int, torch.Tensor]] = {}  # of each bucket, the visit's number and its order

    @property
    def global_batch_size(self) -> int:
        return self.batch_size * self.accumulation_steps * self.num_processes

    def draw_bucket(self, step: int) -> int:
        """Return which bucket the optimizer step `step` (from 0) takes its clips from."""
        if len(self.buckets) == 1:
            return 0
        return int(torch.multinomial(self.weights, 1, generator=make_generator(self.seed, step, "bucket")))

    def draw_visit(self, bucket: int, position: int) -> Visit:
        """Return the visit at `position` of a bucket's endless order."""
        keys = self.buckets[bucket]
        number, index = divmod(position, len(keys))
        return Visit(keys[int(self.draw_order(bucket, number)[index])], number)

    def draw_order(self, bucket: int, number: int) -> torch.Tensor:
        """Return the order, (clips,) int64, in which the clips of a bucket are met for the `number`-th time.

        The last one of each bucket is kept: to draw one of two million clips takes 0.1 s, and as many visits share it.
        """
        kept, order = self.orders.get(bucket, (None, None))
        if kept != number:
            keys = self.buckets[bucket]
            order = torch.randperm(len(keys), generator=make_generator(self.seed, keys[0], number, "order"))
            self.orders[bucket] = number, order
        return order

    def __iter__(self) -> Iterator[list[Visit]]:  # type: ignore[override]  # a sampler of visits, not of numbers
        positions = [0] * len(self.buckets)
        step = 0
        while True:
            bucket = self.draw_bucket(step)
            start, positions[bucket] = positions[bucket], positions[bucket] + self.global_batch_size
            if step >= self.first_step:
                for i in range(self.accumulation_steps):
                    first = start + (i * self.num_processes + self.process_index) * self.batch_size
                    yield [self.draw_visit(bucket, first + j) for j in range(self.batch_size)]
            step += 1

    def __len__(self) -> int:
        raise TypeError("The batches do not end: count optimizer steps.")


def open_clips(config: TrainingConfig) -> CachedClips:
    """Return the clips of a run's cache; see `CachedClips` and `check_tasks` for the errors.

    Raises:
        ValueError: Also if no clip has audio, and `freeze_video` lets nothing else learn.
    """
    clips = CachedClips(
        config.cache_dir, config.branch, config.seed, config.caption_dropout, config.line_dropout, config.model
    )
    if config.freeze_video:  # of a clip without audio nothing could learn
        clips = clips.subset(key for key, modalities in clips.modalities.items() if "audio" in modalities)
        if not len(clips):
            raise ValueError(f"No clip in the cache `{config.cache_dir}` has audio, which `freeze_video` needs.")
    check_tasks(clips, config)
    return clips


def check_tasks(clips: CachedClips, config: TrainingConfig) -> None:
    """Raise ValueError if the clips cannot teach the tasks of a run."""
    tasks = [task for task in config.tasks if task != "t2av"]
    if not tasks:
        return
    whole = [clips.rows[key] for key, modalities in clips.modalities.items() if len(modalities) == 2]
    if not whole:
        raise ValueError(
            f"`task_probabilities` has {', '.join(tasks)}, which need clips with video and audio, but the cache "
            f"`{clips.cache_dir}` has {' and '.join(sorted(clips.kinds))} alone: leave these tasks out, or preprocess "
            "clips with both."
        )
    short = [row["key"] for row in whole if row["num_frames"] == 1]
    if "continuation" in tasks and short:
        raise ValueError(
            f"`task_probabilities` has continuation, but {len(short)} clip(s) of the cache `{clips.cache_dir}` have "
            f"one frame, such as {short[0]}: nothing follows a beginning. Leave the task out, or preprocess longer "
            "clips."
        )


def create_batches(
    clips: CachedClips, config: TrainingConfig, accelerator: Accelerator, first_step: int
) -> Iterator[Batch]:
    """Return this process's endless batches from optimizer step `first_step` on."""
    sampler = StepSampler(
        clips.buckets(),
        config.train_batch_size,
        accelerator.gradient_accumulation_steps,
        accelerator.process_index,
        accelerator.num_processes,
        config.seed,
        first_step,
    )
    loader = DataLoader(
        clips,
        batch_sampler=sampler,
        collate_fn=partial(collate, seed=config.seed),
        num_workers=config.dataloader_num_workers,
        pin_memory=accelerator.device.type == "cuda",
        generator=torch.Generator(),  # its own, so that the process's generator stays where it is
    )
    return iter(loader)
