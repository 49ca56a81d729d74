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

from .tiny_transformers import TINY, joint_processors


def model_and_inputs(name: str, case: str) -> tuple[torch.nn.Module, dict]:
    """Return the tiny model of a class, and inputs whose media and text tokens two ranks can share."""
    tiny = TINY[name]
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
    if case == "apart":
        inputs["cross_modal_attention"] = False
    return model, inputs


CASES = ("full text", "padded text", "apart", "video alone", "sound alone", "video branch only", "cross attention")
CASES += ("given beginning",)


def work(rank: int, port: int, path: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    mesh = torch.distributed.init_device_mesh("cpu", (1, 2), mesh_dim_names=("ring", "ulysses"))
    outputs = {}
    for name, case in itertools.product(TINY, CASES):
        model, inputs = model_and_inputs(name, case)
        # `enable_parallelism` asks for an accelerator; these are its steps
        config = ParallelConfig(context_parallel_config=ContextParallelConfig(ulysses_degree=2))
        config.setup(rank, 2, torch.device("cpu"), mesh=mesh)
        for processor in joint_processors(model):
            processor._parallel_config = config
        apply_context_parallel(model, config.context_parallel_config, model._cp_plan)
        with torch.no_grad():
            outputs[name, case] = model(**inputs)
    torch.save(outputs, f"{path}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def parallel_outputs(tmp_path_factory):
    path = tmp_path_factory.mktemp("parallel")
    with socket.socket() as s:
        s.bind(("localhost", 0))
        port = s.getsockname()[1]
    # copies of this process where that is safe: on macOS libraries do not go on in a fork
    method = "fork" if sys.platform == "linux" else "spawn"
    torch.multiprocessing.start_processes(work, (port, str(path)), nprocs=2, start_method=method)
    return [torch.load(path / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", TINY)
def test_two_processes_give_the_outputs_of_one(parallel_outputs, name, case):
    model, inputs = model_and_inputs(name, case)
    with torch.no_grad():
        expected = model(**inputs)
    for outputs in parallel_outputs:
        for output, reference in zip(outputs[name, case], expected, strict=True):
            assert (output is None) == (reference is None)
            assert reference is None or (output - reference).abs().max() < 1e-5
