# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0

import io
import pickle
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from diffusers_jova.evaluation.checkpoints import load_weights, read_checkpoint, read_state_dict
from diffusers_jova.evaluation.weight_files import WEIGHT_FILES, describe_files, missing_files, needed_files


WEIGHTS = {"weight": torch.arange(4.0).reshape(2, 2), "bias": torch.ones(2)}


def test_a_weight_file_is_read_whatever_its_trainer_wrapped_around_it(tmp_path):
    for wrapper in (None, "state_dict", "model", "params"):
        content = WEIGHTS if wrapper is None else {"epoch": 3, wrapper: WEIGHTS}
        torch.save(content, tmp_path / "weights.pt")
        assert read_state_dict(tmp_path / "weights.pt").keys() == WEIGHTS.keys()
    torch.save({f"module.{name}": value for name, value in WEIGHTS.items()}, tmp_path / "parallel.pth")
    assert read_state_dict(tmp_path / "parallel.pth").keys() == WEIGHTS.keys()
    save_file(WEIGHTS, tmp_path / "weights.safetensors")
    assert torch.equal(read_state_dict(tmp_path / "weights.safetensors")["weight"], WEIGHTS["weight"])


def test_a_weight_file_from_before_pytorch_1_6_is_read(tmp_path):
    torch.save(WEIGHTS, tmp_path / "old.model", _use_new_zipfile_serialization=False)
    assert torch.equal(read_state_dict(tmp_path / "old.model")["bias"], WEIGHTS["bias"])


def test_numbers_and_arrays_of_numpy_1_beside_the_weights_are_no_obstacle(tmp_path):
    buffer = io.BytesIO()
    sampler = {"indexes": np.arange(3), "seen": np.array([True, False])}
    torch.save({"epoch": np.float64(0.5), "sampler": sampler, "state_dict": WEIGHTS}, buffer)
    (tmp_path / "new.pt").write_bytes(buffer.getvalue())
    assert read_state_dict(tmp_path / "new.pt").keys() == WEIGHTS.keys()
    with zipfile.ZipFile(buffer) as new, zipfile.ZipFile(tmp_path / "clap.pt", "w") as old:
        for name in new.namelist():
            content = new.read(name)
            if name.endswith("data.pkl"):
                assert b"numpy._core" in content
                content = content.replace(b"numpy._core", b"numpy.core")
            old.writestr(name, content)
    checkpoint = read_checkpoint(tmp_path / "clap.pt")
    assert (checkpoint["epoch"], checkpoint["sampler"]["indexes"].tolist()) == (0.5, [0, 1, 2])
    assert read_state_dict(tmp_path / "clap.pt").keys() == WEIGHTS.keys()


class Runs:
    def __reduce__(self):
        return print, ("this must not be printed",)


def test_code_in_a_weight_file_is_refused_and_not_run(tmp_path, capsys):
    (tmp_path / "bad.pt").write_bytes(pickle.dumps({"state_dict": Runs()}, protocol=2))
    torch.save({"state_dict": Runs()}, tmp_path / "worse.pt")
    for name in ("bad.pt", "worse.pt"):
        with pytest.raises(ValueError, match=f"{name}.*damaged or hold more than weights"):
            read_checkpoint(tmp_path / name)
    assert capsys.readouterr().out == ""


def test_a_damaged_and_a_missing_weight_file_are_named(tmp_path):
    (tmp_path / "half.pt").write_bytes(b"PK\x03\x04 cut")
    (tmp_path / "half.safetensors").write_bytes(b"cut")
    for name in ("half.pt", "half.safetensors"):
        with pytest.raises(ValueError, match=name):
            read_checkpoint(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no weight file .*absent.pt"):
        read_checkpoint(tmp_path / "absent.pt")


def test_weights_are_loaded_for_evaluation_only():
    layer = load_weights(torch.nn.Linear(2, 2), WEIGHTS, "a layer")
    assert not layer.training
    assert not any(parameter.requires_grad for parameter in layer.parameters())


def test_of_many_wrong_names_a_few_are_shown():
    weights = {f"layer.{index}": torch.ones(1) for index in range(20)}
    with pytest.raises(ValueError, match=r"2 missing: weight, bias; 20 unexpected: layer\.0.*layer\.4, \.\.\.\.$"):
        load_weights(torch.nn.Linear(2, 2), weights, "a layer")


def test_files_that_are_missing_are_told_with_their_source_and_licence(tmp_path):
    wanted = ["LSE:s3fd50", "ID"]
    assert [file.name for file in missing_files(tmp_path, wanted)] == [
        "syncnet_v2.model", "sfd_face.pth", "dinov3-vitl16-pretrain-lvd1689m/",
    ]  # fmt: skip
    (tmp_path / "sfd_face.pth").touch()
    (tmp_path / "dinov3-vitl16-pretrain-lvd1689m").mkdir()
    missing = missing_files(tmp_path, wanted)
    assert [file.name for file in missing] == ["syncnet_v2.model", "dinov3-vitl16-pretrain-lvd1689m/"]
    (tmp_path / "dinov3-vitl16-pretrain-lvd1689m" / "config.json").touch()
    lines = describe_files(missing_files(tmp_path, wanted)).splitlines()
    assert len(lines) == 1
    assert "syncnet_v2.model" in lines[0] and "robots.ox.ac.uk" in lines[0] and "CC Attribution" in lines[0]


def test_protocols_of_a_metric_need_files_of_their_own():
    assert {file.name for file in needed_files(["LSE:precropped"])} == {"syncnet_v2.model"}
    assert {file.name for file in needed_files(["CS:avb"])} == {
        "roberta-base/", "music_speech_audioset_epoch_15_esc_89.98.pt",
    }  # fmt: skip
    assert len(needed_files(["AS"])) == 4
    assert needed_files(["WER:sensevoice"]) == []  # its transcripts come from elsewhere
    named = {name for file in WEIGHT_FILES for name in file.metrics} - {"LSE"}
    assert needed_files(named) == list(WEIGHT_FILES)


def test_an_unknown_metric_is_refused():
    with pytest.raises(ValueError, match="No weights are known for `PSNR`"):
        needed_files(["PSNR"])
    with pytest.raises(ValueError, match="`WER` depend on the protocol, such as `WER:whisper`"):
        needed_files(["WER"])
