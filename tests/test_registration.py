# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
import ast
import json
import subprocess
import sys
from pathlib import Path

import diffusers
import pytest
import torch
from diffusers import AutoencoderKLWan, AutoModel, DiffusionPipeline, FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.pipeline_loading_utils import LOADABLE_CLASSES, _get_custom_components_and_folders
from warm_python import WarmPython

import diffusers_jova
from diffusers_jova import JoVAPipeline, JoVATransformer3DModel
from diffusers_jova.models import MODELS
from diffusers_jova.registration import CLASSES as REGISTERED


CLASSES = [JoVAPipeline, *MODELS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A saved pipeline with a class of ours and classes of diffusers."""
    torch.manual_seed(0)
    pipe = JoVAPipeline(
        vae=AutoencoderKLWan(base_dim=8, z_dim=16, num_res_blocks=1),
        transformer=JoVATransformer3DModel(
            num_attention_heads=1, attention_head_dim=64, num_layers=1, num_single_layers=1, text_embed_dim=8
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )
    folder = tmp_path_factory.mktemp("pipeline")
    pipe.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("cls", CLASSES)
def test_class_is_reachable_on_diffusers(cls):
    assert getattr(diffusers, cls.__name__) is cls


def test_all_classes_are_registered():
    assert set(REGISTERED) == {cls.__name__ for cls in CLASSES}


def test_registering_twice_changes_nothing():
    loadable, names = dict(LOADABLE_CLASSES), set(vars(diffusers))
    diffusers_jova.register()
    assert loadable == LOADABLE_CLASSES
    assert names == set(vars(diffusers))


def test_class_that_diffusers_already_has_wins(monkeypatch):
    upstream = type("JoVAPipeline", (), {})
    monkeypatch.setattr(diffusers, "JoVAPipeline", upstream)
    diffusers_jova.register()
    assert diffusers.JoVAPipeline is upstream


def test_public_names_exist():
    assert all(hasattr(diffusers_jova, name) for name in diffusers_jova.__all__)


def test_saved_pipeline_names_the_package_and_not_a_module_path(folder):
    index = json.loads((folder / "model_index.json").read_text())
    assert index["transformer"] == ["diffusers_jova", "JoVATransformer3DModel"]
    assert index["vae"] == ["diffusers", "AutoencoderKLWan"]


def test_hub_download_asks_for_no_remote_code(folder):
    index = json.loads((folder / "model_index.json").read_text())
    filenames = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    custom_components, folders = _get_custom_components_and_folders("org/repo", index, filenames)
    assert custom_components == {}
    assert "transformer" in folders


@pytest.mark.parametrize("cls", [DiffusionPipeline, JoVAPipeline])
def test_pipeline_loads_from_a_folder(cls, folder):
    pipe = cls.from_pretrained(folder)
    assert type(pipe) is JoVAPipeline
    assert type(pipe.transformer) is JoVATransformer3DModel


def test_auto_model_loads_the_transformer_with_and_without_the_index(folder):
    assert type(AutoModel.from_pretrained(str(folder), subfolder="transformer")) is JoVATransformer3DModel
    assert type(AutoModel.from_pretrained(str(folder / "transformer"))) is JoVATransformer3DModel


FRESH = """
import sys
assert not sys.modules.keys() & {{"diffusers", "diffusers_jova"}}
{imports}
import diffusers
from diffusers import AutoModel, DiffusionPipeline
pipe = DiffusionPipeline.from_pretrained({folder!r})
assert type(pipe).__module__ == "diffusers_jova.pipelines.pipeline_jova", type(pipe)
assert type(pipe) is diffusers.JoVAPipeline is diffusers.pipelines.JoVAPipeline
assert type(AutoModel.from_pretrained({folder!r} + "/transformer")) is diffusers.JoVATransformer3DModel
assert not hasattr(diffusers, "JoVASomethingElse") and diffusers.AutoencoderKLWan
"""


@pytest.fixture(scope="module")
def python():
    """A Python that has imported what diffusers needs, but neither diffusers nor this package."""
    with WarmPython(["torch._dynamo", "peft", "scipy.stats"]) as python:
        yield python


@pytest.mark.parametrize(
    "imports",
    [
        "import diffusers_jova",
        "import diffusers, diffusers_jova",
        "import diffusers_jova.text, diffusers.utils",
    ],
)
def test_pipeline_loads_whichever_package_is_imported_first(python, folder, imports):
    run = python.run("-c", FRESH.format(imports=imports, folder=str(folder)))
    assert run.returncode == 0, run.stderr


def test_importing_the_package_loads_neither_torch_nor_diffusers():
    code = "import sys, diffusers_jova; print([name for name in ('torch', 'diffusers') if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_public_names_are_the_same_at_run_time_and_for_type_checkers():
    tree = ast.parse(Path(diffusers_jova.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))  # TYPE_CHECKING
    typed = {alias.name: f"{'.' * node.level}{node.module}" for node in block.body for alias in node.names}
    assert typed == diffusers_jova.MODULES
    assert {*typed, "register"} == set(diffusers_jova.__all__) <= set(dir(diffusers_jova))
