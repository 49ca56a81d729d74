# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Clips and prompts -> a report of plain values, which is written as JSON and rendered as Markdown and HTML.

The report, format 1, by keys:

- `format`: "diffusers-jova score 1"
- `header`: `created`, `command` [words], `clips`, `prompts`, `profile`, `variants` {metric: protocol}, `options`,
  `seed`, `device`, `versions` {package: version}, `weights` [{`name`, `sha256`, `source`, `licence`}], `not_measured`
  {metric: why}, `not_comparable` [why]
- `metrics`: [{`name`, `title`, `variant`, `local`, `average`, `weights` [names], `columns` [{`name`, `range`, `better`
  "higher", "lower" or ""}]}]
- `clips`: [{`name`, `id`, `set`, `file` or null, `sha256`, `audio_file`, `num_frames`, `frame_rate`, `height`,
  `width`, `audio_s`, `sampling_rate`, `channels`, `prompt` {as in the file}, `results` {metric: {`status`, `expected`,
  `values` {column: number}, `details`}}}]
- `summary`: {set or "all": {column: {`metric`, `mean`, `interval` [low, high] or null, `n_used`, `n_expected`,
  `statuses` {status: clips}, `notes` [text]}}}
- `without_prompt`: [files of clips that no prompt names]
- `published`: [{`table`, `title`, `source`, `url`, `read`, `bench`, `protocol`, `protocols` {column: text}, `labels`
  {column: text}, `notes` [text], `model`, `kind`, `values` {column: number}}], of `--against`, see `published`
- `open_points`: [text]

`mean` is null where no clip could be measured. For metrics of a whole set it is the set's value and a clip has no
values. `interval` is the 95 % interval of the mean over clips, drawn anew 2000 times (bootstrap, percentiles).
`n_expected` counts the clips whose prompts ask for the metric: those that are missing or damaged, or lack a face, are
among them; those without text, image or reference in their prompt are not. Keys may be added; none changes meaning.
"""

import gc
import hashlib
import json
import logging
import math
import os
import shutil
import tempfile
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..files import whole_file
from ..headers import read_json
from ..progress import progress
from ..workers import Failure, Workers
from .clips import ClipFile, Decoded, DecodeRequest, Subject, decode, sha256_of
from .measurement import Measurement, Status
from .passes import REFERENCE, Pass, Plan
from .prompt_file import Prompt, row_of


logger = logging.getLogger(__name__)

FORMAT = "diffusers-jova score 1"
NUM_RESAMPLES = 2000
INTERVAL = (2.5, 97.5)  # percentiles
VIDEO, AUDIO = "video", "audio"


@dataclass
class Item:
    """A prompt and its clip.

    Attributes:
        clip: None where there is none.
        problem: why it cannot be measured, or "".
        hashes: sha256 of "video", "audio", "image" and "reference", where they are there.
        decoded: what is in the clip, whether or not its frames still lie on the disk.
        findings: by the name of the pass.
    """

    prompt: Prompt
    clip: ClipFile | None
    problem: str = ""
    hashes: dict[str, str] = field(default_factory=dict)
    decoded: Decoded | None = None
    findings: dict[str, Measurement] = field(default_factory=dict)


class Cache:
    """What passes found, one file each, so that a run that was killed goes on where it was.

    Args:
        folder: for one run at a time; None keeps nothing.
    """

    def __init__(self, folder: Path | None):
        self.folder = folder
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def _path(self, key: Mapping[str, Any]) -> Path:
        digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()
        return self.folder / digest[:2] / f"{digest}.json"

    def get(self, key: Mapping[str, Any]) -> dict | None:
        """Return what was kept under a key; None for nothing, or what cannot be read."""
        if self.folder is None or not self._path(key).is_file():
            return None
        try:
            return read_json(self._path(key))["value"]
        except (ValueError, OSError, KeyError, TypeError):  # a damaged one is made anew
            return None

    @contextmanager
    def workplace(self) -> Iterator[Path]:
        """Give an empty folder for decoded clips, which goes; what a killed run left in it goes now."""
        if self.folder is None:
            with tempfile.TemporaryDirectory(prefix="diffusers-jova-score-") as temporary:
                yield Path(temporary)
            return
        folder = self.folder / "decoded"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def put(self, key: Mapping[str, Any], value: dict) -> None:
        if self.folder is None:
            return
        path = self._path(key)
        path.parent.mkdir(exist_ok=True)
        with whole_file(path, writer="") as partial:
            text = json.dumps({"key": key, "value": plain(value)}, default=str)
            partial.write_text(text, encoding="utf-8")


def pack(measurement: Measurement) -> dict:
    """Return a measurement as plain values; see `unpack`."""
    arrays = {
        name: {"dtype": array.dtype.str, "shape": array.shape, "data": b64encode(array.tobytes()).decode()}
        for name, array in measurement.features.items()
    }
    return {
        "status": measurement.status.value,
        "values": measurement.values,
        "details": measurement.details,
        "features": arrays,
    }


def plain(value: Any) -> Any:
    """Return a value as JSON has it: numpy's numbers and arrays as Python's, and None for what is not finite."""
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def unpack(packed: Mapping[str, Any]) -> Measurement:
    arrays = {
        name: np.frombuffer(b64decode(array["data"]), array["dtype"]).reshape(array["shape"]).copy()
        for name, array in packed["features"].items()
    }
    return Measurement(Status(packed["status"]), packed["values"], packed["details"], arrays)


class Scorer:
    """Runs the passes of plans over clips.

    Args:
        weights: the folder of weights.
        cache: of what passes found.
        jobs: processes that decode; 0 for none but this one, which a damaged clip may then crash.
        max_decoded_bytes: of decoded frames on the disk at a time. More clips are measured in several rounds, and
            each network is loaded once a round.
    """

    def __init__(
        self,
        plans: Sequence[Plan],
        weights: Path | None,
        device: str = "cpu",
        cache: Cache | None = None,
        jobs: int = 0,
        max_decoded_bytes: int = 8 << 30,
    ):
        self.plans, self.weights, self.device, self.cache = plans, weights, device, cache or Cache(None)
        self.jobs, self.max_decoded_bytes = jobs, max_decoded_bytes
        passes = {each.name: each for plan in plans for each in plan.all_passes}
        for each in (each for plan in plans for each in plan.all_passes if each.on_reference):
            passes[each.name] = each  # two plans may share a pass, and one of them want references too
        self.passes = tuple(passes.values())
        self.weight_hashes = self._hash_weights()

    def _hash_weights(self) -> dict[str, str]:
        """Return the sha256 of each file of weights; what was hashed before and has not changed is looked up."""
        names = dict.fromkeys(name for plan in self.plans for name in plan.files)
        found = {}
        for name in progress(names, "Checksums of weights", len(names)):
            path = self.weights / name
            files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
            stats = [(str(p.relative_to(self.weights)), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
            key = {"weights": str(self.weights.absolute()), "files": stats}
            kept = self.cache.get(key)
            if kept is None:
                kept = {"sha256": sha256_of(path)}
                self.cache.put(key, kept)
            found[name] = kept["sha256"]
        return found

    # --- what is known ---

    def key(self, each: Pass, item: Item, on_reference: bool = False) -> dict[str, Any]:
        """Return all that a pass's finding depends on."""
        if on_reference:
            reads = {name: item.hashes.get("reference") for name in each.reads if name == AUDIO}
        else:
            reads = {name: self._read(name, item) for name in each.reads}
        return {
            "pass": each.name,
            "version": each.version,
            "settings": dict(each.settings),
            "reads": reads,
            "weights": [self.weight_hashes[name] for name in (*each.network.files, *each.files)],
            "after": [self.key(before, item, on_reference) for before in each.after],
        }

    @staticmethod
    def _read(name: str, item: Item) -> Any:
        if name == "frames":
            return item.hashes.get(VIDEO)
        if name in (AUDIO, "image"):
            return item.hashes.get(name)
        return getattr(item.prompt, name)

    def look_up(self, item: Item) -> list[Pass]:
        """Return the passes that still have to be made, in order, after filling in what the cache holds."""
        plans = [plan for plan in self.plans if counts_for(plan, item.prompt)]
        wanted, missing = {each.name for plan in plans for each in plan.all_passes}, []
        for each in self.passes:
            for name, on_reference in self._runs(each):
                if each.name not in wanted or name in item.findings:
                    continue
                if on_reference and "reference" not in item.hashes:
                    path = item.prompt.reference_audio
                    details = {} if path is None else {"reason": f"there is no file `{path}`"}
                    item.findings[name] = Measurement(Status.NO_REFERENCE, details=details)
                    continue
                kept = self.cache.get(self.key(each, item, on_reference))
                if kept is None:
                    missing.append(each)
                else:
                    item.findings[name] = _as_reference(unpack(kept)) if on_reference else unpack(kept)
        return self._needed(plans, {each.name: each for each in missing})

    @staticmethod
    def _needed(plans: Sequence[Plan], missing: Mapping[str, Pass]) -> list[Pass]:
        """Return the missing passes that a plan combines, and what those wait for and lack."""
        needed: dict[str, Pass] = {}

        def add(each: Pass) -> None:
            if each.name in missing:
                for before in each.after:
                    add(before)
                needed.setdefault(each.name, missing[each.name])

        for each in (each for plan in plans for each in plan.passes):
            add(each)
        return list(needed.values())

    @staticmethod
    def _runs(each: Pass) -> list[tuple[str, bool]]:
        runs = [(each.name, False)]
        return [*runs, (each.name + REFERENCE, True)] if each.on_reference else runs

    # --- work ---

    def run(self, items: Sequence[Item]) -> None:
        """Fill in the findings of all passes."""
        for item in progress(items, "Checksums of clips", len(items)):
            _hash_item(item)
        todo = []
        for item in items:
            if item.clip is None or item.problem:
                continue
            kept = self.cache.get(self._decoded_key(item))
            item.decoded = None if kept is None else _unpack_decoded(kept)
            if self.look_up(item) or item.decoded is None:
                todo.append(item)
        if not todo:
            return
        with self.cache.workplace() as folder, Workers(self.jobs) as workers:
            limit = min(self.max_decoded_bytes, shutil.disk_usage(folder).free // 2)
            requests = (self._request(item, folder / str(i), limit) for i, item in enumerate(todo))
            decoding = progress(workers.map(decode_item, requests), "Decoding and measuring", len(todo))
            round_items, references, num_bytes = [], {}, 0
            for (_, result), item in zip(decoding, todo):
                if isinstance(result, Failure):
                    item.problem = str(result)
                    continue
                clip, reference = result
                item.decoded = clip
                self.cache.put(self._decoded_key(item), _pack_decoded(clip))
                round_items.append(item)
                references[item.prompt.name] = reference
                num_bytes += clip.num_bytes + (reference.num_bytes if isinstance(reference, Decoded) else 0)
                if num_bytes >= limit // 2:  # the processes decode ahead meanwhile
                    self._measure(round_items, references)
                    round_items, references, num_bytes = [], {}, 0
            self._measure(round_items, references)

    @staticmethod
    def _decoded_key(item: Item) -> dict[str, Any]:
        return {"decoded": 1, VIDEO: item.hashes.get(VIDEO), AUDIO: item.hashes.get(AUDIO)}

    def _request(self, item: Item, folder: Path, limit: int) -> tuple[DecodeRequest, DecodeRequest | None]:
        clip = DecodeRequest(folder, item.clip.path, item.clip.audio_path, limit)
        reference = None
        if any(each.on_reference for each in self.passes) and "reference" in item.hashes:
            reference = DecodeRequest(
                folder.with_name(f"{folder.name}-reference"), None, item.prompt.reference_audio, limit
            )
        return clip, reference

    def _measure(self, items: Sequence[Item], references: Mapping[str, Decoded | str | None]) -> None:
        """Make the missing passes over decoded clips, one network after the other, and remove the decoded clips."""
        todo = {item.prompt.name: {each.name for each in self.look_up(item)} for item in items}
        networks: dict[str, list[Pass]] = {}
        for each in self.passes:
            networks.setdefault(each.network.name, []).append(each)
        for passes in _in_order(networks):
            wanted = [item for item in items if any(each.name in todo[item.prompt.name] for each in passes)]
            if not wanted:
                continue
            self._pass_over(wanted, passes, todo, references)
            if passes[0].network.files:
                _free_memory()
        for item in items:
            shutil.rmtree(item.decoded.folder, ignore_errors=True)
            if isinstance(reference := references[item.prompt.name], Decoded):
                shutil.rmtree(reference.folder, ignore_errors=True)

    def _pass_over(
        self,
        items: Sequence[Item],
        passes: Sequence[Pass],
        todo: Mapping[str, set[str]],
        references: Mapping[str, Decoded | str | None],
    ) -> None:
        """Make the passes of one network; it is forgotten at the end."""
        network = passes[0].network.load(self.weights, self.device)
        for item in progress(items, passes[0].network.name, len(items)):
            for each in passes:
                if each.name in todo[item.prompt.name]:
                    self._run_pass(each, network, item, references[item.prompt.name])

    def _run_pass(self, each: Pass, network: Any, item: Item, reference: Decoded | str | None) -> None:
        for name, on_reference in self._runs(each):
            if name in item.findings:
                continue
            decoded = reference if on_reference else item.decoded
            if not isinstance(decoded, Decoded):
                item.findings[name] = Measurement(Status.NO_REFERENCE, details={"reason": reference})
                continue
            finding = _try_pass(each, network, Subject(item.prompt, decoded), {} if on_reference else item.findings)
            if finding.status != Status.ERROR:  # whatever went wrong may go well another time
                self.cache.put(self.key(each, item, on_reference), pack(finding))
            item.findings[name] = _as_reference(finding) if on_reference else finding


def _as_reference(finding: Measurement) -> Measurement:
    """Return what is found in a reference; where nothing is, the reference is at fault, and not the clip."""
    if finding.status == Status.OK:
        return finding
    reason = finding.details.get("reason", f"the reference is {finding.status.value}")
    return Measurement(Status.NO_REFERENCE, details={"reason": reason})


def decode_item(requests: tuple[DecodeRequest, DecodeRequest | None]) -> tuple[Decoded, Decoded | str | None]:
    """Return a decoded clip, and its decoded reference or what is wrong with that."""
    clip, reference = requests
    decoded = decode(clip)
    if reference is None:
        return decoded, None
    try:
        return decoded, decode(reference)
    except (ValueError, OSError) as error:
        return decoded, str(error)


def _hash_item(item: Item) -> None:
    """Fill in the hashes of an item's files."""
    if item.clip is None or item.problem:
        return
    files = {VIDEO: item.clip.path, "image": item.prompt.image, "reference": item.prompt.reference_audio}
    try:
        for name, path in files.items():
            if path is not None and path.is_file():
                item.hashes[name] = sha256_of(path)
        if (audio := item.clip.audio_path) is not None:
            item.hashes[AUDIO] = item.hashes[VIDEO] if audio == item.clip.path else sha256_of(audio)
    except OSError as error:
        item.problem = str(error)


def _in_order(networks: Mapping[str, list[Pass]]) -> list[list[Pass]]:
    """Return the passes of each network, those of a network that others wait for first."""
    order: dict[str, list[Pass]] = {}

    def add(name: str) -> None:
        for before in {before.network.name for each in networks[name] for before in each.after} - {name}:
            add(before)
        order.setdefault(name, networks[name])

    for name in networks:
        add(name)
    return list(order.values())


def _free_memory() -> None:
    gc.collect()
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()


def _try_pass(each: Pass, network: Any, subject: Subject, findings: Mapping[str, Measurement]) -> Measurement:
    """Return what a pass finds; whatever goes wrong with one clip becomes its status."""
    for before in each.after:
        if findings[before.name].status != Status.OK:
            return findings[before.name]
    if "frames" in each.reads and subject.frames is None:
        return Measurement(Status.NO_VIDEO)
    try:
        return each.run(network, subject, findings)
    except MemoryError:
        raise
    except Exception as error:  # one clip never ends the run: its status says why
        reason = " ".join(str(error).split()) or type(error).__name__
        logger.warning("%s: %s: %s", subject.name, each.name, reason)
        logger.debug("", exc_info=True)
        return Measurement(Status.ERROR, details={"reason": f"{type(error).__name__}: {reason}"})


def _pack_decoded(decoded: Decoded) -> dict:
    rate = decoded.frame_rate
    return {
        "shape": decoded.shape,
        "frame_rate": None if rate is None else [rate.numerator, rate.denominator],
        "audio_shape": decoded.audio_shape,
        "sampling_rate": decoded.sampling_rate,
    }


def _unpack_decoded(packed: Mapping[str, Any]) -> Decoded:
    rate = packed["frame_rate"]
    return Decoded(
        Path(os.devnull),
        packed["shape"] and tuple(packed["shape"]),
        rate and Fraction(*rate),
        packed["audio_shape"] and tuple(packed["audio_shape"]),
        packed["sampling_rate"],
    )


# --- the report ---


def measurements_of(plan: Plan, items: Iterable[Item]) -> list[Measurement]:
    """Return what a metric says of each clip."""
    return [_measure(plan, item) for item in items]


def _measure(plan: Plan, item: Item) -> Measurement:
    if not counts_for(plan, item.prompt):
        return Measurement(Status.EXCLUDED)
    if item.clip is None and not item.problem:
        return Measurement(Status.MISSING)
    if item.problem:
        return Measurement(Status.ERROR, details={"reason": item.problem})
    names = [name for each in plan.all_passes for name in (each.name + REFERENCE, each.name)]
    findings = {name: item.findings[name] for name in names if name in item.findings}
    try:
        found = plan.combine(item.prompt, findings)
    except ValueError as error:
        return Measurement(Status.ERROR, details={"reason": str(error)})
    if not np.isfinite(list(found.values.values())).all():
        return Measurement(Status.ERROR, details={"reason": f"the values are not finite: {found.values}"})
    return found


def counts_for(plan: Plan, prompt: Prompt) -> bool:
    """Whether a prompt lets its clip count for a metric."""
    return prompt.metrics is None or plan.metric.name in prompt.metrics


def is_expected(plan: Plan, prompt: Prompt) -> bool:
    """Whether a prompt asks for a metric: it counts for it, and says what the metric compares with."""
    return counts_for(plan, prompt) and all(getattr(prompt, name) for name in plan.metric.expects)


def summarize(
    plan: Plan, items: Sequence[Item], measured: Sequence[Measurement], seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Return the summary of each column over a set of clips, as in the report."""
    good = [item for item in measured if item.status == Status.OK]
    statuses = Counter(item.status.value for item in measured)
    notes, values, intervals = [], {}, {}
    if good:
        notes += plan.remarks(good)
        if plan.of_set is not None:
            try:
                values = plan.of_set(good)
            except ValueError as error:
                notes.append(str(error))
        else:
            per_clip = {column.name: [item.values[column.name] for item in good] for column in plan.metric.columns}
            values = {name: float(np.mean(each)) for name, each in per_clip.items()}
            if plan.pooled is not None:
                values |= plan.pooled(good)
            intervals = _intervals(plan, good, per_clip, seed)
    return {
        column.name: {
            "metric": plan.metric.name,
            "mean": values.get(column.name),
            "interval": intervals.get(column.name),
            "n_used": len(good),
            "n_expected": sum(is_expected(plan, item.prompt) for item in items),
            "statuses": dict(sorted(statuses.items())),
            "notes": notes,
        }
        for column in plan.metric.columns
    }


def _intervals(
    plan: Plan, good: Sequence[Measurement], per_clip: Mapping[str, Sequence[float]], seed: int
) -> dict[str, list[float]]:
    """Return the interval of each column's mean: clips are drawn with replacement, the same for every column."""
    if len(good) < 2:
        return {}
    drawn = np.random.default_rng(seed).integers(0, len(good), (NUM_RESAMPLES, len(good)))
    means = {name: np.asarray(values)[drawn].mean(axis=1) for name, values in per_clip.items()}
    if plan.pooled is not None:
        pooled = [plan.pooled([good[index] for index in row]) for row in drawn]
        means |= {name: [each[name] for each in pooled] for name in pooled[0]}
    return {name: [float(x) for x in np.percentile(values, INTERVAL)] for name, values in means.items()}


def make_report(
    plans: Sequence[Plan], items: Sequence[Item], header: Mapping[str, Any], seed: int = 0, **more: Any
) -> dict[str, Any]:
    """Return the report of items whose findings are filled in; see the module's documentation."""
    measured = {plan.metric.name: measurements_of(plan, items) for plan in plans}
    sets = list(dict.fromkeys(item.prompt.set for item in items))
    labels = {"": "(no set)", "all": "(set all)"}  # "all" is that of all sets
    groups = {labels.get(name, name): [i for i, item in enumerate(items) if item.prompt.set == name] for name in sets}
    summary: dict[str, dict] = {"all": {}} | ({name: {} for name in groups} if len(groups) > 1 else {})
    for plan in plans:
        for name in summary:
            chosen = range(len(items)) if name == "all" else groups[name]
            parts = [items[i] for i in chosen], [measured[plan.metric.name][i] for i in chosen]
            summary[name] |= summarize(plan, *parts, seed)
        if plan.mean_of_sets and len(groups) > 1:
            for column in plan.metric.columns:
                means = [summary[name][column.name]["mean"] for name in groups]
                means = [mean for mean in means if mean is not None]
                entry = summary["all"][column.name]
                entry |= {"mean": float(np.mean(means)) if means else None, "interval": None}
                entry["notes"] = [*entry["notes"], f"mean of the values of {len(means)} sets"]
    return {
        "format": FORMAT,
        "header": dict(header),
        "metrics": [_describe(plan) for plan in plans],
        "clips": [_clip_row(item, plans, measured, index) for index, item in enumerate(items)],
        "summary": summary,
        **more,
    }


def _describe(plan: Plan) -> dict[str, Any]:
    return {
        "name": plan.metric.name,
        "title": plan.metric.title,
        "variant": plan.variant,
        "local": plan.metric.local,
        "average": plan.average,
        "columns": [vars(column) for column in plan.metric.columns],
        "weights": list(plan.files),
    }


def _clip_row(
    item: Item, plans: Sequence[Plan], measured: Mapping[str, Sequence[Measurement]], index: int
) -> dict[str, Any]:
    decoded = item.decoded or Decoded(Path(os.devnull))
    num_frames, height, width = (decoded.shape or (0, 0, 0, 0))[:3]
    channels, samples = decoded.audio_shape or (0, 0)
    results = {}
    for plan in plans:
        found = measured[plan.metric.name][index]
        results[plan.metric.name] = {
            "status": found.status.value,
            "expected": is_expected(plan, item.prompt),
            "values": plain(found.values),
            "details": plain(found.details),
        }
    return {
        "name": item.prompt.name,
        "id": item.prompt.id,
        "set": item.prompt.set,
        "file": None if item.clip is None else str(item.clip.path),
        "audio_file": None if item.clip is None or item.clip.audio_path is None else str(item.clip.audio_path),
        "sha256": item.hashes.get(VIDEO),
        "num_frames": num_frames,
        "frame_rate": None if decoded.frame_rate is None else float(decoded.frame_rate),
        "height": height,
        "width": width,
        "audio_s": samples / decoded.sampling_rate if decoded.sampling_rate else 0.0,
        "sampling_rate": decoded.sampling_rate,
        "channels": channels,
        "prompt": row_of(item.prompt),
        "results": results,
    }
