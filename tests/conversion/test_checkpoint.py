# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
import json
import os
import pickle
import sys

import pytest
import torch
from safetensors.torch import save_file

from diffusers_jova.conversion.checkpoint import SAFETENSORS_DTYPES, open_checkpoint
from diffusers_jova.conversion.errors import ConversionError


ENTRY = {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]}
HALF = {"dtype": "F32", "shape": [8], "data_offsets": [0, 32]}
TENSORS = {"a.weight": torch.randn(3, 4), "a.bias": torch.randn(3).bfloat16(), "scalar": torch.tensor(2.0)}


class RunsCode:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def write_raw(path, entries, data=b"\0" * 64):
    header = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path


@pytest.mark.parametrize("suffix", ["safetensors", "pt", "pth", "bin", "ckpt"])
def test_tensors_are_read_bit_by_bit_from_every_kind_of_file(tmp_path, suffix, same_tensors):
    path = tmp_path / f"model.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(TENSORS, path)
    for place in (path, tmp_path):
        assert same_tensors(dict(open_checkpoint(place)), TENSORS)


def test_views_and_shared_memory_of_torch_files_are_read_as_they_were(tmp_path):
    whole = torch.arange(20.0).reshape(4, 5)
    views = {"whole": whole, "rows": whole[1:3], "transposed": whole.T, "column": whole[:, 2], "empty": whole[:0]}
    torch.save(views, tmp_path / "model.pt")
    checkpoint = open_checkpoint(tmp_path / "model.pt")
    assert all(torch.equal(checkpoint[name], tensor) for name, tensor in views.items())


@pytest.mark.parametrize("dtype", SAFETENSORS_DTYPES.values(), ids=SAFETENSORS_DTYPES)
def test_every_dtype_is_read_as_it_is(tmp_path, dtype, same_tensors):
    bits = (
        torch.randint(0, 2, (64,), dtype=torch.uint8) if dtype == torch.bool else torch.arange(64, dtype=torch.uint8)
    )
    tensors = {"x": bits.view(dtype)}
    save_file(tensors, tmp_path / "model.safetensors")
    assert same_tensors(dict(open_checkpoint(tmp_path)), tensors)


@pytest.mark.parametrize(
    "wrapped",
    [
        {f"module.{name}": tensor for name, tensor in TENSORS.items()},
        {f"model.{name}": tensor for name, tensor in TENSORS.items()},
        {f"ema.module._orig_mod.{name}": tensor for name, tensor in TENSORS.items()},
        {"state_dict": TENSORS, "step": 7, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}},
        {"ema_model": {**TENSORS, "n_averaged": torch.tensor(3)}},
    ],
    ids=["module", "model", "ema", "container", "averaged"],
)
def test_prefixes_and_what_is_not_weights_are_taken_off(tmp_path, wrapped, same_tensors):
    torch.save(wrapped, tmp_path / "model.pt")
    assert same_tensors(dict(open_checkpoint(tmp_path)), TENSORS)


def test_of_two_sets_of_weights_one_has_to_be_named(tmp_path):
    ema = {name: tensor + 1 for name, tensor in TENSORS.items()}
    torch.save({"model": TENSORS, "ema": ema}, tmp_path / "model.pt")
    with pytest.raises(ConversionError, match="a.weight is there twice.*--prefix 'model.' or 'ema.'"):
        open_checkpoint(tmp_path)
    checkpoint = open_checkpoint(tmp_path, prefix="ema.")
    assert torch.equal(checkpoint["a.weight"], ema["a.weight"])
    assert len(checkpoint.ignored) == len(TENSORS)
    with pytest.raises(ConversionError, match="No tensor .* begins with 'emma.'"):
        open_checkpoint(tmp_path, prefix="emma.")


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_a_truncated_file_is_refused(tmp_path, suffix):
    path = tmp_path / f"model.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(TENSORS, path)
    whole = path.read_bytes()
    for size in (0, 5, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ConversionError, match="model.*truncated"):
            open_checkpoint(path)


def test_a_pickle_with_code_is_refused_and_never_executed(tmp_path):
    proof = tmp_path / "executed"
    torch.save({"a": torch.ones(1), "b": RunsCode(proof)}, tmp_path / "zip.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(RunsCode(proof), protocol=2))
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    for name in ("zip.pt", "plain.pt", "module.pt"):
        with pytest.raises(ConversionError, match=f"{name} is refused: .*Nothing of it was run"):
            open_checkpoint(tmp_path / name)
    assert not proof.exists()


@pytest.fixture
def sharded(tmp_path):
    """A folder of two shards with their index; returns the folder and the index's entries."""
    names = {"x-00001-of-00002.safetensors": ["a.weight"], "x-00002-of-00002.safetensors": ["a.bias", "scalar"]}
    for file, group in names.items():
        save_file({name: TENSORS[name] for name in group}, tmp_path / file)
    weight_map = {name: file for file, group in names.items() for name in group}
    write_index(tmp_path, weight_map)
    return tmp_path, weight_map


def write_index(folder, weight_map):
    (folder / "x.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_shards_are_read_by_their_index(sharded, same_tensors):
    folder, _ = sharded
    assert same_tensors(dict(open_checkpoint(folder)), TENSORS)
    assert same_tensors(dict(open_checkpoint(folder / "x.safetensors.index.json")), TENSORS)


def test_a_missing_shard_is_named(sharded):
    folder, _ = sharded
    (folder / "x-00002-of-00002.safetensors").unlink()
    with pytest.raises(ConversionError, match="1 of 2 shards are missing: x-00002-of-00002"):
        open_checkpoint(folder)


def test_an_index_that_names_absent_tensors_is_refused(sharded):
    folder, weight_map = sharded
    write_index(folder, {**weight_map, "ghost": "x-00001-of-00002.safetensors"})
    with pytest.raises(ConversionError, match="1 tensors that are not where it says: ghost"):
        open_checkpoint(folder)


def test_an_index_that_leads_out_of_its_folder_is_refused(sharded):
    folder, weight_map = sharded
    write_index(folder, {**weight_map, "ghost": "../other.safetensors"})
    with pytest.raises(ConversionError, match="outside its folder"):
        open_checkpoint(folder)


def test_a_tensor_in_two_shards_is_refused(sharded):
    folder, _ = sharded
    save_file({"a.bias": TENSORS["a.bias"], "a.weight": TENSORS["a.weight"]}, folder / "x-00001-of-00002.safetensors")
    with pytest.raises(ConversionError, match="a.bias is there twice, in x-00001.*x-00002"):
        open_checkpoint(folder)


def test_a_tensor_twice_in_one_header_is_refused(tmp_path):
    entry = b'"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}'
    with pytest.raises(ConversionError, match="twice.safetensors: The tensor a is there twice"):
        open_checkpoint(write_raw(tmp_path / "twice.safetensors", b"{" + entry + b"," + entry + b"}"))


@pytest.mark.parametrize(
    "entries, problem",
    [
        (b"[1]", "header must be a JSON object"),
        (b"{broken", "header is not JSON"),
        (b"[" * 200_000, "header is nested too deep"),
        (b'{"__metadata__":' + b"[" * 200_000, "header is nested too deep"),
        ({"__metadata__": {"a": 1}, "a": ENTRY}, "expected a string"),
        ({"__metadata__": [1], "a": ENTRY}, "expected a map"),
        ({"a": {**ENTRY, "shape": [17]}}, "info.data_offsets mismatch|invalid shape"),
        ({"a": {**ENTRY, "shape": [-16]}}, "expected usize"),
        ({"a": {**ENTRY, "dtype": "F3"}}, "unknown variant `F3`"),
        ({"a": {"dtype": "F4", "shape": [128], "data_offsets": [0, 64]}}, "dtype F4"),
        ({"a": {"shape": [4]}}, "missing field"),
        ({"a": ENTRY, "b": {**ENTRY, "data_offsets": [32, 96]}}, "truncated"),
        ({"a": HALF, "b": {**HALF, "data_offsets": [16, 48]}}, "invalid offset for tensor `b`"),
        ({"a": HALF}, "not fully covered"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_a_damaged_header_is_refused_with_the_files_name(tmp_path, entries, problem):
    with pytest.raises(ConversionError, match=rf"model.safetensors.*({problem})"):
        open_checkpoint(write_raw(tmp_path / "model.safetensors", entries))


def test_a_file_without_tensors_is_refused_and_null_metadata_is_none(tmp_path):
    with pytest.raises(ConversionError, match="no tensors"):
        open_checkpoint(write_raw(tmp_path / "model.safetensors", {}, b""))
    checkpoint = open_checkpoint(write_raw(tmp_path / "null.safetensors", {"__metadata__": None, "a": ENTRY}))
    assert checkpoint.metadata == {} and torch.equal(checkpoint["a"], torch.zeros(16))


def test_a_header_longer_than_the_file_is_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes((1 << 62).to_bytes(8, "little") + b"{}" * 40)
    with pytest.raises(ConversionError, match="model.safetensors is truncated or not a safetensors file"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
def test_a_json_file_nested_too_deep_is_refused_by_name(tmp_path, name):
    save_file(TENSORS, tmp_path / "model.safetensors")
    (tmp_path / name).write_text('{"a":' * 200_000)
    with pytest.raises(ConversionError, match=f"{name} is nested too deep"):
        open_checkpoint(tmp_path)


def test_a_torch_file_nested_too_deep_is_refused_by_name(tmp_path):
    content = {"b": torch.ones(1)}
    for _ in range(3000):
        content = {"a": content}
    limit = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(50_000)  # for the pickler
        torch.save(content, tmp_path / "model.pt")
    finally:
        sys.setrecursionlimit(limit)
    with pytest.raises(ConversionError, match="model.pt is nested too deep"):
        open_checkpoint(tmp_path)


def test_a_folder_that_does_not_say_what_to_take_is_refused(tmp_path):
    with pytest.raises(ConversionError, match="it has nothing"):
        open_checkpoint(tmp_path)
    save_file(TENSORS, tmp_path / "one.safetensors")
    save_file(TENSORS, tmp_path / "two.safetensors")
    with pytest.raises(ConversionError, match=r"2 \*.safetensors files .*one.safetensors, two.safetensors"):
        open_checkpoint(tmp_path)
    with pytest.raises(ConversionError, match="does not exist"):
        open_checkpoint(tmp_path / "three.safetensors")
    (tmp_path / "model.h5").write_bytes(b"")
    with pytest.raises(ConversionError, match="model.h5 must end in"):
        open_checkpoint(tmp_path / "model.h5")
