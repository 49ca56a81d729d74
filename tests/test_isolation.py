# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The guard in isolation.py: tests that each leave one thing changed run in a session of their own, and are blamed."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import isolation
import numpy as np
import torch


# What the test of this name leaves changed, in the guard's words.
LEFT = {
    "a_parameter": "pipe.transformer.proj_out.weight: ",
    "a_parameter_through_data": "pipe.vae.quant_conv.bias: ",
    "a_buffer": "pipe.audio_vae.",
    "a_gradient": "pipe.vocoder.",
    "a_layer": "pipe.transformer.proj_out: ",
    "training_mode": "pipe.vae.training: False -> True",
    "requires_grad": "pipe.vae.",
    "dtype": "pipe.text_encoder.",
    "a_hook": "pipe.transformer._forward_hooks: ",
    "a_forward_method": "pipe.vae.forward: ",
    "a_cache": "pipe.transformer._cache_config: ",
    "an_attention_backend_of_a_model": "pipe.transformer.transformer_blocks.0.attn.processor._attention_backend: ",
    "a_lora": "pipe.transformer.video_embedder.proj_in.weight: ",
    "tiling": "pipe.vae.use_tiling: False -> True",
    "a_scheduler_setting": "pipe.scheduler.config['stochastic_sampling']: False -> True",
    "a_scheduler_class": "pipe.scheduler: ",
    "a_pipeline_setting": "pipe._internal_dict['guidance_scale']: 3.0 -> 7.0",
    "a_progress_bar_setting": "pipe._progress_bar_config['disable']: True -> False",
    "a_tokenizer_setting": "pipe.tokenizer.padding_side: ",
    "a_missing_component": "pipe.vocoder: ",
    "a_file_of_a_shared_folder": "folder/new.txt: 'nothing' -> ",
    "a_list_of_a_fixture": "numbers[1]: 'nothing' -> 7",
    "a_generator_of_a_fixture": "dice: ",
    "an_array_of_a_module_fixture": "samples: ",
    "a_constant_of_the_module": "test_session.CONSTANT['b']: 'nothing' -> 2",
    "a_constant_of_the_package": "diffusers_jova.pipelines.random_pipeline.NANO_DEFAULTS['height']: ",
    "a_function_of_the_package": "diffusers_jova.media.read_video: ",
    "a_method_of_the_package": "diffusers_jova.pipelines.pipeline_jova.JoVAPipeline.denoise: ",
    "the_environment": "os.environ['JOVA_LEFT']: 'nothing' -> '1'",
    "the_working_directory": "os.getcwd(): ",
    "a_file_in_the_project": "file left.txt: 'nothing' -> 'there'",
    "a_file_deep_in_the_project": "file data/inside/left.txt: 'nothing' -> 'there'",
    "threads": "torch.get_num_threads(): 1 -> 2",
    "default_dtype": "torch.get_default_dtype(): torch.float32 -> torch.float64",
    "default_device": "torch.get_default_device(): ",
    "grad_mode": "torch.is_grad_enabled(): True -> False",
    "deterministic_algorithms": "torch.get_deterministic_debug_mode(): 0 -> 2",
    "matmul_precision": "torch.get_float32_matmul_precision(): 'highest' -> 'medium'",
    "the_attention_backend": "diffusers' active attention backend: ",
    "a_registered_class": "diffusers.LeftTransformer: 'nothing' -> ",
    "a_loadable_class": "diffusers' LOADABLE_CLASSES['left']: 'nothing' -> ",
    "a_transformers_config": "transformers' own configs['left']: 'nothing' -> ",
    "diffusers_verbosity": "diffusers' verbosity: ",
    "transformers_progress_bars": "transformers' progress bars: ",
    "a_logger": "logger diffusers_jova: ",
    "sys_path": "sys.path: ",
    "a_module_gone": "sys.modules.wave: ",
    "a_signal_handler": "handler of SIGTERM: ",
    "umask": "os.umask(): ",
    "a_running_thread": "still running: <Thread(left",
    "accelerate": "accelerate's states: ",
}

SESSION = """
import logging, os, signal, sys, threading, wave
from pathlib import Path

import diffusers, numpy as np, pytest, torch, transformers
from accelerate.state import PartialState
from diffusers import FirstBlockCacheConfig
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from diffusers.pipelines.pipeline_loading_utils import LOADABLE_CLASSES
from peft import LoraConfig

import diffusers_jova.media
from diffusers_jova import JoVAPipeline
from diffusers_jova.pipelines.random_pipeline import NANO_DEFAULTS

logging.getLogger("diffusers_jova")
CONSTANT = {"a": 1}


@pytest.fixture(scope="session")
def numbers():
    return [1]


@pytest.fixture(scope="session")
def dice():
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def samples():
    return np.zeros((2, 3))


def test_nothing(pipe, folder, numbers, dice, samples, own_pipe, monkeypatch, tmp_path):
    monkeypatch.setenv("JOVA_LEFT", "2")
    monkeypatch.chdir(tmp_path)
    own_pipe.vae.train().double()
    threading.Timer(0.3, str).start()  # a thread that ends by itself, a little later
    own_pipe.scheduler = None
    torch.rand(1)
    assert pipe("A face.", output_type="np").frames.shape == (1, 5, 32, 32, 3)


def test_a_parameter(pipe):
    with torch.no_grad():
        pipe.transformer.proj_out.weight[0, 0] += 1


def test_a_parameter_through_data(pipe):
    pipe.vae.quant_conv.bias.data += 1


def test_a_buffer(pipe):
    next(pipe.audio_vae.buffers()).add_(1)


def test_a_gradient(pipe):
    next(pipe.vocoder.parameters()).sum().backward()


def test_a_layer(pipe):
    pipe.transformer.proj_out = torch.nn.Identity()


def test_training_mode(pipe):
    pipe.vae.train()


def test_requires_grad(pipe):
    pipe.vae.requires_grad_(False)


def test_dtype(pipe):
    pipe.text_encoder.double()


def test_a_hook(pipe):
    pipe.transformer.register_forward_hook(print)


def test_a_forward_method(pipe):
    pipe.vae.forward = print


def test_a_cache(pipe):
    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=1.0))


def test_an_attention_backend_of_a_model(pipe):
    pipe.transformer.set_attention_backend("native")


def test_a_lora(pipe):
    pipe.transformer.add_adapter(LoraConfig(r=2, target_modules=["to_q"]), "left")


def test_tiling(pipe):
    pipe.vae.enable_tiling()


def test_a_scheduler_setting(pipe):
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, stochastic_sampling=True)


def test_a_scheduler_class(pipe):
    pipe.scheduler = diffusers.DDPMScheduler()


def test_a_pipeline_setting(pipe):
    pipe.register_to_config(guidance_scale=7.0)


def test_a_progress_bar_setting(pipe):
    pipe.set_progress_bar_config(disable=False)


def test_a_tokenizer_setting(pipe):
    pipe.tokenizer.padding_side = "left"


def test_a_missing_component(pipe):
    pipe.vocoder = None


def test_a_file_of_a_shared_folder(folder):
    (folder / "new.txt").touch()


def test_a_list_of_a_fixture(numbers):
    numbers.append(7)


def test_a_generator_of_a_fixture(dice):
    torch.rand(1, generator=dice)


def test_an_array_of_a_module_fixture(samples):
    samples[0] = 1


def test_a_constant_of_the_module():
    CONSTANT["b"] = 2


def test_a_constant_of_the_package():
    NANO_DEFAULTS["height"] += 1


def test_a_function_of_the_package():
    diffusers_jova.media.read_video = print


def test_a_method_of_the_package():
    JoVAPipeline.denoise = print


def test_the_environment():
    os.environ["JOVA_LEFT"] = "1"


def test_the_working_directory(tmp_path):
    os.chdir(tmp_path)


def test_a_file_in_the_project(request):
    (request.config.rootpath / "left.txt").touch()


def test_a_file_deep_in_the_project(request):
    (request.config.rootpath / "data" / "inside" / "left.txt").touch()


def test_threads():
    torch.set_num_threads(2)


def test_default_dtype():
    torch.set_default_dtype(torch.float64)


def test_default_device():
    torch.set_default_device("meta")


def test_grad_mode():
    torch.set_grad_enabled(False)


def test_deterministic_algorithms():
    torch.use_deterministic_algorithms(True)


def test_matmul_precision():
    torch.set_float32_matmul_precision("medium")


def test_the_attention_backend():
    _AttentionBackendRegistry._active_backend = AttentionBackendName.FLEX


def test_a_registered_class():
    diffusers.LeftTransformer = type("LeftTransformer", (), {})


def test_a_loadable_class():
    LOADABLE_CLASSES["left"] = {}


def test_a_transformers_config():
    transformers.AutoConfig.register("left", type("Left", (transformers.PretrainedConfig,), {"model_type": "left"}))


def test_diffusers_verbosity():
    diffusers.utils.logging.set_verbosity_error()


def test_transformers_progress_bars():
    transformers.utils.logging.enable_progress_bar()


def test_a_logger():
    logging.getLogger("diffusers_jova").propagate = False  # `log_level` puts the level back


def test_sys_path():
    sys.path.append("left")


def test_a_module_gone():
    del sys.modules["wave"]


def test_a_signal_handler():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def test_umask():
    os.umask(0o077)


def test_a_running_thread():
    threading.Thread(target=threading.Event().wait, args=(30,), name="left").start()


def test_accelerate():
    PartialState(cpu=True)
"""

# After the first test, which makes the fixtures, each runs in a process of its own: the next one must not suffer.
IN_A_FORK = """


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    import json, os
    from _pytest.runner import runtestprotocol

    forks = item.name != "test_nothing"
    if forks and (pid := os.fork()):
        os.waitpid(pid, 0)
        return True
    reports = runtestprotocol(item, nextitem=nextitem, log=False)
    text = json.dumps({report.when: report.longreprtext for report in reports if report.failed})
    with open(os.path.join(os.environ["REPORTS"], item.name), "w") as file:
        file.write(text)
    if forks:
        os._exit(0)
    return True
"""


def run_session(tmp_path):
    """Return what each test of the session failed with, {its name: {"setup", "call" or "teardown": text}}."""
    project, reports = tmp_path / "project", tmp_path / "reports"
    reports.mkdir()
    (project / "data" / "inside").mkdir(parents=True)
    (project / "tests").mkdir()
    (project / "pytest.ini").touch()
    here = Path(__file__).parent
    conftest = (here / "conftest.py").read_text(encoding="utf-8")
    (project / "tests" / "conftest.py").write_text(conftest + IN_A_FORK, encoding="utf-8")
    (project / "tests" / "test_session.py").write_text(SESSION, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "tests"]
    environment = os.environ | {"REPORTS": str(reports)}
    environment["PYTHONPATH"] = os.pathsep.join([str(here), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    result = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return {path.name.removeprefix("test_"): json.loads(path.read_text()) for path in reports.iterdir()}


def test_each_test_that_leaves_something_changed_is_blamed_and_no_other(tmp_path):
    reports = run_session(tmp_path)
    assert reports.pop("nothing") == {}
    assert set(reports) == set(LEFT)
    for what, said in reports.items():
        assert list(said) == ["teardown"], (what, said)
        assert f"\n  {LEFT[what]}" in said["teardown"], (what, said["teardown"])


def draw():
    return torch.rand(1).item(), np.random.rand(), random.random()


def test_numbers_without_a_seed_are_of_the_test_whatever_ran_before(pytestconfig):
    isolation.draw_numbers_of(pytestconfig, "a test")
    first = draw()
    isolation.draw_numbers_of(pytestconfig, "another test")
    assert not set(draw()) & set(first)
    isolation.draw_numbers_of(pytestconfig, "a test")
    assert draw() == first


def test_a_shared_fixture_draws_its_own_numbers_and_leaves_those_of_the_test_alone(pytestconfig):
    isolation.draw_numbers_of(pytestconfig, "a test")
    first = [draw(), draw()]
    with isolation.random_numbers_of(pytestconfig, "a fixture"):
        of_the_fixture = draw()
    isolation.draw_numbers_of(pytestconfig, "a test")
    assert draw() == first[0]
    with isolation.random_numbers_of(pytestconfig, "a fixture"):
        assert draw() == of_the_fixture
    assert draw() == first[1]
