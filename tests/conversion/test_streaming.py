# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
import hashlib
import json
import math
import os
import re
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from diffusers_jova.conversion import streaming
from diffusers_jova.conversion.checkpoint import TensorInfo, open_checkpoint
from diffusers_jova.conversion.errors import ConversionError
from diffusers_jova.conversion.key_mapping import KEEP, KeyMap, Rule, load_key_map
from diffusers_jova.conversion.plan import Plan
from diffusers_jova.conversion.report import Report
from diffusers_jova.conversion.streaming import Write, nonfinite, parse_size
from diffusers_jova.models.transformer_jova import JoVATransformer3DModel


def copy_plan(path):
    """Return the plan that copies a checkpoint."""
    checkpoint = open_checkpoint(path)
    writes, _ = KeyMap("none-1", (KEEP,)).match(checkpoint.infos)
    return Plan(Report(), writes, checkpoint.files, metadata={"key_map": "none-1"})


@pytest.fixture
def source(tmp_path):
    """A checkpoint of mixed dtypes, odd sizes first, so that careless offsets would be misaligned."""
    tensors = {"a": torch.arange(3, dtype=torch.uint8), "b": torch.randn(5).bfloat16(), "c": torch.randn(7, 3)}
    tensors |= {"d": torch.randn(2).double(), "e": torch.tensor(True), "f": torch.zeros(0, 4)}
    save_file(tensors, tmp_path / "source.safetensors")
    return tmp_path / "source.safetensors"


def leftovers(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".out.partial")]


@pytest.mark.parametrize("max_shard_size, files", [("1GB", 1), (40, 3), (1, 6)])
def test_shards_hold_every_tensor_once_and_other_readers_read_them(
    source, tmp_path, max_shard_size, files, same_tensors
):
    copy_plan(source).write(tmp_path / "out", max_shard_size=max_shard_size)
    shards = sorted((tmp_path / "out").glob("*.safetensors"))
    assert len(shards) == files
    loaded = [load_file(shard) for shard in shards]
    assert same_tensors({name: one[name] for one in loaded for name in one}, load_file(source))
    assert sum(map(len, loaded)) == 6
    assert same_tensors(dict(open_checkpoint(tmp_path / "out")), load_file(source))


def test_every_tensor_is_aligned_to_its_elements_whatever_the_order(tmp_path, same_tensors):
    tensors = {
        "odd": torch.arange(3, dtype=torch.uint8),
        "wide": torch.randn(2).double(),
        "half": torch.randn(5).half(),
    }
    writes = [
        Write(name, make=lambda tensor=tensor: tensor, like=tensor.to("meta")) for name, tensor in tensors.items()
    ]
    Plan(Report(), writes, []).write(tmp_path / "out")
    infos = open_checkpoint(tmp_path / "out").infos.values()
    assert all(info.offset % info.dtype.itemsize == 0 for info in infos)
    assert same_tensors(load_file(tmp_path / "out" / "diffusion_pytorch_model.safetensors"), tensors)


def test_metadata_names_the_key_map_and_the_sha256_of_the_inputs(source, tmp_path):
    copy_plan(source).write(tmp_path / "out", max_shard_size=40)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    for shard in (tmp_path / "out").glob("*.safetensors"):
        with safe_open(shard, "pt") as file:
            metadata = file.metadata()
        assert metadata["format"] == "pt" and metadata["key_map"] == "none-1"
        assert json.loads(metadata["inputs"]) == {"source.safetensors": digest}


def test_what_several_tensors_are_made_of_is_read_once(tmp_path, monkeypatch):
    save_file({"qkv": torch.arange(6), "other": torch.ones(1)}, tmp_path / "source.safetensors")
    checkpoint = open_checkpoint(tmp_path / "source.safetensors")
    read, names = TensorInfo.read, []
    monkeypatch.setattr(TensorInfo, "read", lambda info: (names.append(info.shape), read(info))[1])
    writes, _ = KeyMap("t", (Rule(("qkv",), ("q", "k", "v")), KEEP)).match(checkpoint.infos)
    Plan(Report(), writes, checkpoint.files).write(tmp_path / "out")
    assert sorted(names) == [(1,), (6,)]
    assert load_file(tmp_path / "out" / "diffusion_pytorch_model.safetensors")["k"].tolist() == [2, 3]


def test_an_existing_output_needs_overwrite(source, tmp_path, same_tensors):
    out = tmp_path / "out"
    out.mkdir()
    (out / "old.txt").write_text("old")
    with pytest.raises(ConversionError, match="exists already. Pass --overwrite"):
        copy_plan(source).write(out)
    assert (out / "old.txt").read_text() == "old"
    copy_plan(source).write(out, overwrite=True)
    assert [path.name for path in out.iterdir()] == ["diffusion_pytorch_model.safetensors"]
    assert not leftovers(tmp_path)


def test_overwriting_never_removes_the_input(source, tmp_path):
    with pytest.raises(ConversionError, match="would remove .*source.safetensors, which is in use"):
        copy_plan(source).write(tmp_path, overwrite=True)
    assert source.exists()


def test_too_little_disk_space_is_noticed_before_anything_is_written(source, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ConversionError, match="No space for out: it needs .* KB, the disk of .* has 1.0 KB free"):
        copy_plan(source).write(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source.safetensors"]


def test_a_disk_that_fills_up_leaves_nothing(tmp_path):
    save_file({"a": torch.zeros(1 << 20)}, tmp_path / "source.safetensors")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(OSError, match="Cannot write `.*out`: a file cannot be that large there"):
            copy_plan(tmp_path / "source.safetensors").write(tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["source.safetensors"]


def test_not_finite_tensors_are_all_named_and_nothing_is_left(tmp_path):
    tensors = {"fine": torch.ones(4), "nan": torch.tensor([1.0, torch.nan]), "half": torch.tensor([torch.inf]).half()}
    save_file(tensors, tmp_path / "source.safetensors")
    with pytest.raises(ConversionError, match=r"2 tensors are not finite: .*nan \(1 NaN\)"):
        copy_plan(tmp_path / "source.safetensors").write(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source.safetensors"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2])
def test_large_finite_numbers_pass_and_one_bad_number_does_not(dtype):
    large = torch.full((1000,), torch.finfo(dtype).max, dtype=torch.float64).to(dtype)
    assert nonfinite(large) is None
    for value, problem in ((torch.inf, "1 Inf"), (torch.nan, "1 NaN")):
        bad = large.to(torch.float64)
        bad[500] = value
        assert nonfinite(bad.to(dtype)) == problem


@pytest.mark.parametrize("size, expected", [("5GB", 5 * 10**9), ("1.5mb", 1500000), ("200 KB", 200000), (12, 12)])
def test_sizes_are_read_in_their_units(size, expected):
    assert parse_size(size) == expected


@pytest.mark.parametrize("size", ["5GiB", "lots", "0", "-1GB"])
def test_a_size_that_is_none_is_refused(size):
    with pytest.raises(ConversionError, match="max_shard_size"):
        parse_size(size)


def write_sparse(path, shapes, dtype="F32", itemsize=4):
    """Write a safetensors file of zeros that takes no space on the disk, however large."""
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + math.prod(shape) * itemsize
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(path, 8 + len(text) + end)
    return end


def memory(what):
    """Return "VmRSS", what this process holds in memory now, or "VmHWM", the most that it held, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(what))


@pytest.fixture
def memory_growth():
    """Return a function that says by how many bytes the process has grown, at its largest, since the test began."""
    Path("/proc/self/clear_refs").write_text("5")  # makes the peak what there is now
    before = memory("VmRSS")
    return lambda: memory("VmHWM") - before


def test_kill_leaves_nothing_but_a_marked_folder_that_the_next_run_removes(tmp_path, same_tensors, monkeypatch):
    tensors = {f"t{k}": torch.randn(1000) for k in range(50)}
    save_file(tensors, tmp_path / "source.safetensors")
    write_at = streaming.write_at
    monkeypatch.setattr(streaming, "write_at", lambda *args: (time.sleep(0.2), write_at(*args))[1])
    child = os.fork()
    if not child:
        copy_plan(tmp_path / "source.safetensors").write(tmp_path / "out")
        os._exit(0)
    while not list(tmp_path.glob(".out.partial/out/*")):
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    monkeypatch.undo()
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert len(leftovers(tmp_path)) == 1
    copy_plan(tmp_path / "source.safetensors").write(tmp_path / "out")
    assert same_tensors(load_file(tmp_path / "out" / "diffusion_pytorch_model.safetensors"), tensors)
    assert not leftovers(tmp_path)


def test_memory_stays_small_however_large_the_checkpoint_is(tmp_path, memory_growth):
    size = write_sparse(tmp_path / "source.safetensors", {f"t{k}": [1 << 20] for k in range(64)})
    copy_plan(tmp_path / "source.safetensors").write(tmp_path / "out", max_shard_size="100MB")
    assert memory_growth() < size / 4


def test_the_plan_of_a_48_gb_checkpoint_takes_seconds_and_little_memory(tmp_path, memory_growth, run_verb):
    """The half GB that the imports take is not counted here; benchmarks/conversion.py counts it."""
    with torch.device("meta"):
        state_dict = JoVATransformer3DModel(audio_in_channels=None).state_dict()
    writes, _ = load_key_map("waver").bind(branch="video", head="").inverse.match(state_dict)
    shapes = {write.name: list(write.sources[0].shape) for write in writes}
    assert write_sparse(tmp_path / "waver.safetensors", shapes) > 48e9
    start = time.process_time()
    result = run_verb(
        "convert_waver", "--to", "jova", "--dry_run", "--preset", "jova-24b", "--input", tmp_path / "waver.safetensors"
    )
    assert result.status == 0
    assert "2337 matched, 3 initialised, 0 missing, 0 unexpected, 0 shape mismatches" in result.output
    assert re.search(r"to write, 9\d\.\d GB", result.output) and "dry run: nothing was written" in result.output
    assert time.process_time() - start < 15
    assert memory_growth() < 400e6
