# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Context parallelism of the transformer, in two processes over gloo."""

import itertools
import os
import socket
import sys

import pytest
import torch
import torch.distributed
from diffusers.hooks.context_parallel import apply_context_parallel
from diffusers.models._modeling_parallel import ContextParallelConfig, ParallelConfig

from .tiny_transformers import JOVA_WAN_5B, TINY, joint_processors


def model_and_inputs(name: str, case: str) -> tuple[torch.nn.Module, dict]:
    """Return the tiny model of a class, and inputs whose media and text tokens two ranks can share."""
    tiny = JOVA_WAN_5B if case == "given frame" else TINY[name]
    overrides = {"video branch only": {"audio_in_channels": None}, "cross attention": {"attention_fusion": "cross"}}
    model = tiny.model(**overrides.get(case, {}))
    inputs = tiny.inputs(audio_hidden_states=torch.randn(2, 5, 10, generator=torch.Generator().manual_seed(1)))
    if case == "padded text":
        inputs["encoder_attention_mask"] = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0]])
    if case in ("video alone", "video branch only"):
        inputs["audio_hidden_states"] = None
    if case == "sound alone":
        inputs["hidden_states"] = None
    if case == "given beginning":
        inputs["audio_timestep"] = torch.where(torch.arange(10) < 7, 0.0, inputs["timestep"][:, None])
    if case == "given frame":
        inputs["audio_timestep"] = inputs["timestep"]
        inputs["timestep"] = torch.where(torch.arange(3) < 1, 0.0, inputs["timestep"][:, None])
    if case == "apart":
        inputs["cross_modal_attention"] = False
    return model, inputs


CASES = ("full text", "padded text", "apart", "video alone", "sound alone", "video branch only", "cross attention")
CASES += ("given beginning",)
JOBS = [*itertools.product(TINY, CASES), ("JoVAWanTransformer3DModel", "given frame")]


def latents_of(pipe, **kwargs) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what a pipeline makes, with texts of different lengths and token counts that two ranks can share."""
    texts = {"prompt": "A face.", "negative_prompt": "blurred, and with a text that is longer"}
    generator = torch.Generator().manual_seed(0)
    return pipe(**texts, frame_rate=12.0, output_type="latent", return_dict=False, generator=generator, **kwargs)


def share(model: torch.nn.Module, config: ParallelConfig) -> None:
    """Do what `enable_parallelism` does, which asks for an accelerator."""
    for processor in joint_processors(model):
        processor._parallel_config = config
    apply_context_parallel(model, config.context_parallel_config, model._cp_plan)


def work(rank: int, port: int, path: str, pipe) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    mesh = torch.distributed.init_device_mesh("cpu", (1, 2), mesh_dim_names=("ring", "ulysses"))
    config = ParallelConfig(context_parallel_config=ContextParallelConfig(ulysses_degree=2))
    config.setup(rank, 2, torch.device("cpu"), mesh=mesh)
    outputs = {}
    for name, case in JOBS:
        model, inputs = model_and_inputs(name, case)
        share(model, config)
        with torch.no_grad():
            outputs[name, case] = model(**inputs)
    share(pipe.transformer, config)
    outputs["pipeline"] = latents_of(pipe, batch_guidance=True)
    torch.save(outputs, f"{path}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def parallel_outputs(tmp_path_factory, pipe):
    path = tmp_path_factory.mktemp("parallel")
    with socket.socket() as s:
        s.bind(("localhost", 0))
        port = s.getsockname()[1]
    # copies of this process where that is safe: on macOS libraries do not go on in a fork
    method = "fork" if sys.platform == "linux" else "spawn"
    torch.multiprocessing.start_processes(work, (port, str(path), pipe), nprocs=2, start_method=method)
    return [torch.load(path / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name, case", JOBS)
def test_two_processes_give_the_outputs_of_one(parallel_outputs, name, case):
    model, inputs = model_and_inputs(name, case)
    with torch.no_grad():
        expected = model(**inputs)
    for outputs in parallel_outputs:
        for output, reference in zip(outputs[name, case], expected, strict=True):
            assert (output is None) == (reference is None)
            assert reference is None or (output - reference).abs().max() < 1e-5


def test_a_prompt_and_its_negative_in_one_batch_are_shared_by_two_processes(parallel_outputs, pipe):
    expected = latents_of(pipe)  # one pass after another, in one process
    for outputs in parallel_outputs:
        for output, reference in zip(outputs["pipeline"], expected, strict=True):
            torch.testing.assert_close(output, reference, atol=2e-5, rtol=1e-4)
