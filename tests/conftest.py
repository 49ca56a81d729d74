# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Tiny pipelines whose components are of the real classes; `gpu` tests are skipped without an accelerator."""

import copy
import gc
import logging
import subprocess
import sys
import zlib

import diffusers
import pytest
import torch
import transformers
from diffusers import AutoencoderKLWan
from safetensors.torch import save_file
from wan_parts import make_wan22_vae

from diffusers_jova import BigVGANVocoder, JoVAPipeline, JoVAWanTransformer3DModel
from diffusers_jova.pipelines.random_pipeline import create_pipeline


pytest_plugins = ["isolation", "run_report"]

CALL_DEFAULTS = ("height", "width", "num_frames", "frame_rate", "num_inference_steps", "guidance_scale")

# A process that does something in a block of ours and then waits there until it is killed
HOLD = """
import sys, time
from pathlib import Path
from diffusers_jova.files import *
with {block} as partial:
    {work}
    print("ready", flush=True)
    time.sleep(600)
"""


def pytest_configure():
    gc.disable()  # until everything is imported
    torch.set_num_threads(1)
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()


def pytest_collection_finish():
    # Millions of objects that stay: to look through them takes 0.3 s of each full collection, several in a file.
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items):
    if torch.accelerator.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs an accelerator"))


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef):
    # Random weights are the same in any order of the tests: those of an unlucky moment gave two clips one caption.
    torch.manual_seed(zlib.crc32(fixturedef.argname.encode()))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item):
    torch.manual_seed(zlib.crc32(item.nodeid.encode()))


def _make_pipeline(**transformer_config) -> JoVAPipeline:
    """Return a pipeline that takes tenths of a second per call, with random weights drawn from seed 0."""
    config = {"num_layers": 2, "num_single_layers": 1, "num_attention_heads": 2, "attention_head_dim": 16}
    pipe = create_pipeline(**(config | transformer_config))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = AutoencoderKLWan(base_dim=4, z_dim=16, num_res_blocks=1).eval()
        vocoder = BigVGANVocoder(
            upsample_initial_channel=64, resblock_kernel_sizes=(3,), resblock_dilation_sizes=((1,),)
        ).eval()
    pipe = JoVAPipeline(
        **(pipe.components | {"vae": vae, "vocoder": vocoder}),
        height=32,
        width=32,
        num_frames=5,
        frame_rate=12.5,
        num_inference_steps=2,
        guidance_scale=3.0,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="session")
def pipe() -> JoVAPipeline:
    """A tiny pipeline, shared: leave it as you found it. Its calls make 5 frames of 32 x 32 and 0.4 s of sound."""
    return _make_pipeline()


def _make_wan_pipeline(pipe: JoVAPipeline, vae: AutoencoderKLWan, **transformer_config) -> JoVAPipeline:
    """Return `pipe` with a transformer on a Wan base, and that base's VAE."""
    config = {name: pipe.transformer.config[name] for name in ("text_embed_dim", "audio_in_channels")}
    sizes = {"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 2, "ffn_dim": 64, "freq_dim": 16}
    config |= {"audio_latent_rate": 31.25, "text_len": 128}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformer = JoVAWanTransformer3DModel(**config, **sizes, **transformer_config).eval()
    parts = pipe.components | {"transformer": transformer, "vae": vae, "tokenizer_2": None, "text_encoder_2": None}
    defaults = {name: value for name, value in pipe.config.items() if name in CALL_DEFAULTS}
    made = JoVAPipeline(**parts | {"scheduler": copy.deepcopy(pipe.scheduler)}, **defaults)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="session")
def wan_pipe(pipe) -> JoVAPipeline:
    """`pipe` with a transformer on a Wan base; shared like it."""
    return _make_wan_pipeline(pipe, pipe.vae)


@pytest.fixture(scope="session")
def clean_frames_pipe(pipe) -> JoVAPipeline:
    """The same on a base like Wan2.2-TI2V-5B, whose given frames stand clean among the others; shared like it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = make_wan22_vae()
    return _make_wan_pipeline(pipe, vae, in_channels=48, out_channels=48, condition_fill="noisy")


@pytest.fixture(scope="session", params=["pipe", "wan_pipe", "clean_frames_pipe"])
def each_pipe(request) -> JoVAPipeline:
    """A tiny pipeline with each kind of transformer; shared."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def own_pipe(pipe) -> JoVAPipeline:
    """A copy of `pipe` for one test, to be changed at will."""
    return copy.deepcopy(pipe)


@pytest.fixture(scope="session")
def make_pipeline():
    """Return the function that makes `pipe`, to make others with values of the transformer's config of your own."""
    return _make_pipeline


@pytest.fixture(scope="session")
def folder(pipe, tmp_path_factory):
    """`pipe`, saved."""
    folder = tmp_path_factory.mktemp("saved") / "pipeline"
    copy.deepcopy(pipe).save_pretrained(folder)  # saving writes into the configs
    return folder


@pytest.fixture(scope="session")
def load_pipeline(folder):
    """Return a function that loads `pipe` again, to be changed at will; it takes `from_pretrained`'s arguments."""

    def load(**kwargs) -> JoVAPipeline:
        pipe = JoVAPipeline.from_pretrained(folder, **kwargs)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    return load


@pytest.fixture
def record():
    """Return a function that lists the calls of a module from now on, each as (keyword arguments, output)."""
    handles = []

    def start(module: torch.nn.Module) -> list[tuple[dict, object]]:
        calls = []
        hook = lambda module, args, kwargs, output: calls.append((kwargs, output))  # noqa: E731
        handles.append(module.register_forward_hook(hook, with_kwargs=True))
        return calls

    yield start
    for handle in handles:
        handle.remove()


@pytest.fixture
def lora(pipe, tmp_path):
    """A LoRA file that changes what `pipe` makes, video and audio."""
    torch.manual_seed(0)
    layer = "transformer.transformer_blocks.0.{}.to_v.lora_{}.weight"
    shapes = {"A": (4, 32), "B": (32, 4)}
    layers = {layer.format(s, ab): torch.randn(shape) for s in ("video", "audio") for ab, shape in shapes.items()}
    save_file(layers, tmp_path / "lora.safetensors")
    return tmp_path / "lora.safetensors"


@pytest.fixture
def one_process(monkeypatch):
    """Let accelerate run on the CPU, alone and with one thread, and forget it afterwards."""
    from tiny_training import forget_accelerate, hide_accelerators  # late: most files train nothing

    hide_accelerators(monkeypatch)
    yield
    torch.set_num_threads(1)
    forget_accelerate()


@pytest.fixture
def seeded():
    """Return a function that makes a generator of a seed, 0 unless another is given."""
    return lambda seed=0: torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def log_level():
    """Put back the level of the package's log, which programs set that tests and their fixtures run."""
    yield
    logging.getLogger("diffusers_jova").setLevel(logging.NOTSET)


@pytest.fixture
def store(monkeypatch, tmp_path):
    """The memory file system, empty; copies of output folders lie in tmp_path/home."""
    import fsspec  # late: few tests need it

    store = fsspec.filesystem("memory")
    store.store.clear()
    store.pseudo_dirs[:] = [""]  # a folder of another test that is there would get what is put in its place
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    yield store
    store.store.clear()


@pytest.fixture
def hold():
    """Return a function that starts a process which stays in the block `block`, and returns it."""
    processes = []

    def start(block, work="pass"):
        code = HOLD.format(block=block, work=work)
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()
