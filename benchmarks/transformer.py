# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Time the blocks of JoVATransformer3DModel against their floor, their peers and themselves without sound:

    python benchmarks/transformer.py
    python benchmarks/transformer.py --dtype bfloat16 --forward_only
    python benchmarks/transformer.py --device cuda --dtype bfloat16

(a) over the floor: the same linear layers and the same attention calls alone, on the same tensors;
(b) time per counted FLOP over that of diffusers' LTX2, Kandinsky6 and Flux2 blocks at the same width and tokens;
(c) cost of the audio branch: time with it over time without, divided by the same ratio of FLOPs.

All cases of a table take turns, so that a busy machine slows them alike; figures are medians of the turns' ratios.
Seconds, rates and memory on a GPU, and whole models: benchmarks/gpu.sh.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable

import torch
from diffusers.models.transformers.transformer_flux2 import Flux2SingleTransformerBlock, Flux2TransformerBlock
from diffusers.models.transformers.transformer_kandinsky6 import (
    Kandinsky6FusedTransformerDecoderBlock,
    Kandinsky6RoPE1D,
    Kandinsky6RoPE3D,
)
from diffusers.models.transformers.transformer_ltx2 import LTX2VideoTransformerBlock
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from diffusers_jova import command
from diffusers_jova.models.attention import JoVAAttnProcessor
from diffusers_jova.models.embeddings import rotary_embedding
from diffusers_jova.models.transformer_jova import (
    JoVAContext,
    JoVASingleTransformerBlock,
    JoVATransformerBlock,
)


HEAD_DIM = 128
ROPE_AXES = (44, 42, 42)
aten = torch.ops.aten
# torch counts the attention kernels of GPUs only
CPU_ATTENTION_FLOPS = {
    aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda g, q, k, v, *_, **__: sdpa_backward_flop_count(
        g, q, k, v
    ),
}


class Sizes:
    """Tokens of one sample: video grid, audio latents, text; `randn` draws in the benchmark's dtype."""

    def __init__(self, args: argparse.Namespace):
        self.dim, self.heads = args.dim, args.dim // HEAD_DIM
        self.grid = (args.tokens // 256, 16, 16)
        self.video, self.audio, self.text = self.grid[0] * 256, args.audio_tokens, args.text_tokens
        self.device, self.dtype = torch.device(args.device), getattr(torch, args.dtype)

    def randn(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=self.device, dtype=self.dtype)

    def module(self, module: torch.nn.Module) -> torch.nn.Module:
        """Return the module with every zero parameter drawn, else a block is the identity."""
        for parameter in module.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.02)
        return module.to(self.device, self.dtype)


# Cases: a case is (module, args); the module returns one or two tensors.


def jova_block(sizes: Sizes, block_class: type, branches: tuple[str, ...]):
    block = sizes.module(block_class(sizes.dim, sizes.heads, HEAD_DIM, branches))

    def branch(grid: tuple[int, ...]):
        positions = tuple(torch.arange(n, device=sizes.device, dtype=torch.float32) for n in grid)
        cos, sin = rotary_embedding(positions, ROPE_AXES, HEAD_DIM, 10000.0)
        cos = torch.nn.functional.pad(cos, (0, 0, 0, 0, 0, sizes.text), value=1.0)
        sin = torch.nn.functional.pad(sin, (0, 0, 0, 0, 0, sizes.text))
        length = cos.shape[1]
        temb, pos_embed = sizes.randn(1, 1, sizes.dim), sizes.randn(1, length, sizes.dim)
        return sizes.randn(1, length, sizes.dim), JoVAContext(temb, pos_embed, (cos, sin), length - sizes.text)

    video, context = branch(sizes.grid)
    audio, audio_context = branch((sizes.audio,)) if "audio" in branches else (video[:, :0], None)
    return block, (video, audio, context, audio_context)


def ltx2_block(sizes: Sizes):
    dim, heads = sizes.dim, sizes.heads
    block = sizes.module(LTX2VideoTransformerBlock(dim, heads, HEAD_DIM, dim, dim, heads, HEAD_DIM, dim))
    tokens = [sizes.randn(1, n, dim) for n in (sizes.video, sizes.audio, sizes.text, sizes.text)]
    temb = [sizes.randn(1, 1, n * dim) for n in (6, 6, 4, 4, 1, 1)]
    rope = [(torch.rand(1, n, dim, device=sizes.device),) * 2 for n in (sizes.video, sizes.audio)]
    return block, (*tokens, *temb, None, None, *rope, *rope)


def kandinsky6_block(sizes: Sizes):
    dim = sizes.dim
    block = sizes.module(
        Kandinsky6FusedTransformerDecoderBlock(dim, dim, 4 * dim, HEAD_DIM, dim, dim, 4 * dim, HEAD_DIM)
    )
    tokens = [sizes.randn(1, n, dim) for n in (sizes.video, sizes.audio, sizes.text, sizes.text)]
    positions = tuple(torch.arange(n, device=sizes.device) for n in sizes.grid)
    rope = Kandinsky6RoPE3D(ROPE_AXES).to(sizes.device)(positions).flatten(0, 2)
    audio_rope = Kandinsky6RoPE1D(HEAD_DIM).to(sizes.device)(torch.arange(sizes.audio, device=sizes.device))
    return block, (*tokens, (sizes.randn(1, dim), sizes.randn(1, dim)), rope, audio_rope)


def flux2_block(sizes: Sizes):
    block = sizes.module(Flux2TransformerBlock(sizes.dim, sizes.heads, HEAD_DIM, bias=True))
    image, text = sizes.randn(1, sizes.video + sizes.audio, sizes.dim), sizes.randn(1, 2 * sizes.text, sizes.dim)
    rope = (torch.rand(image.shape[1] + text.shape[1], HEAD_DIM, device=sizes.device),) * 2
    return block, (image, text, sizes.randn(1, 6 * sizes.dim), sizes.randn(1, 6 * sizes.dim), rope)


def flux2_single_block(sizes: Sizes):
    block = sizes.module(Flux2SingleTransformerBlock(sizes.dim, sizes.heads, HEAD_DIM, bias=True))
    length = sizes.video + sizes.audio + 2 * sizes.text
    rope = (torch.rand(length, HEAD_DIM, device=sizes.device),) * 2
    return block, (sizes.randn(1, length, sizes.dim), None, sizes.randn(1, 3 * sizes.dim), rope)


# our blocks, and the peers that are built alike
BLOCKS = {
    "multi": (JoVATransformerBlock, {"LTX2": ltx2_block, "Kandinsky6": kandinsky6_block, "Flux2": flux2_block}),
    "single": (JoVASingleTransformerBlock, {"Flux2 single": flux2_single_block}),
}


class Floor(torch.nn.Module):
    """The linear layers and the attention calls of a JoVA block alone, on the tensors that the block gave them."""

    def __init__(self, block: JoVATransformerBlock, args: tuple):
        super().__init__()
        self.calls, inputs = [], {}

        def leaf(tensor):
            key = (tensor.data_ptr(), tensor.shape)
            return inputs.setdefault(key, (tensor.detach().clone().requires_grad_(), tensor))[0]

        class Recorder(JoVAAttnProcessor):
            def attend(_, query, key, value, attention_mask):
                self.calls.append((JoVAAttnProcessor().attend, (leaf(query), leaf(key), leaf(value), attention_mask)))
                return super().attend(query, key, value, attention_mask)

        hooks = [
            module.register_forward_pre_hook(lambda module, args: self.calls.append((module, (leaf(*args),))))
            for module in block.modules()
            if isinstance(module, torch.nn.Linear)
        ]
        block.attn.set_processor(Recorder())
        with torch.no_grad():
            block(*args)
        block.attn.set_processor(JoVAAttnProcessor())
        for hook in hooks:
            hook.remove()
        self.leaves = [tensor for tensor, _ in inputs.values()]

    def forward(self) -> list[torch.Tensor]:
        return [function(*args) for function, args in self.calls]


# Timing


def prepare(case: tuple, backward: bool) -> tuple[Callable, Callable]:
    """Return (run, reset) of a case; `reset` frees its gradients and is not timed."""
    module, args = case
    leaves = module.leaves if isinstance(module, Floor) else [x for x in args if torch.is_tensor(x)]

    def run():
        with torch.set_grad_enabled(backward):
            outputs = module(*args)
            if backward:
                outputs = [outputs] if torch.is_tensor(outputs) else [x for x in outputs if x.requires_grad]
                torch.autograd.backward(outputs, outputs)

    def reset():
        for tensor in [*leaves, *(p for _, p in parameters(module))]:
            tensor.grad = None

    for tensor in leaves:
        tensor.requires_grad_(backward)
    return run, reset


def parameters(module: torch.nn.Module):
    yield from module.named_parameters()
    for function, _ in getattr(module, "calls", ()):
        if isinstance(function, torch.nn.Module):
            yield from function.named_parameters()


def clock(device: torch.device) -> float:
    """Return seconds: wall time, or CPU time where one thread does all the work."""
    if device.type != "cpu":
        torch.accelerator.synchronize()
    elif torch.get_num_threads() == 1:
        return time.process_time()
    return time.perf_counter()


def take_turns(cases: dict[str, tuple], backward: bool, repetitions: int, device: torch.device) -> dict[str, list]:
    """Return the seconds of each case, one per repetition; within a repetition the cases run one after another."""
    prepared = {name: prepare(case, backward) for name, case in cases.items()}
    seconds = {name: [] for name in cases}
    for _ in range(repetitions):
        for name, (run, reset) in prepared.items():
            start = clock(device)
            run()
            seconds[name].append(clock(device) - start)
            reset()
    return seconds


def count_flops(case: tuple, backward: bool) -> int:
    run, reset = prepare(case, backward)
    with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION_FLOPS) as counter:
        run()
    reset()
    return counter.get_total_flops()


def measured_matrix_rate(sizes: Sizes, size: int) -> float:
    """Return the FLOP/s of one large square matrix product, the best of ten."""
    a, b = sizes.randn(size, size), sizes.randn(size, size)
    best = float("inf")
    for _ in range(10):
        start = clock(sizes.device)
        torch.mm(a, b)
        best = min(best, clock(sizes.device) - start)
    return 2 * size**3 / best


def compare(sizes: Sizes, name: str, repetitions: int, backward: bool):
    """Yield the rows of one block, one per ratio."""
    block_class, peers = BLOCKS[name]
    cases = {"both": jova_block(sizes, block_class, ("video", "audio"))}
    cases["floor"] = (Floor(*cases["both"]), ())
    cases["video"] = jova_block(sizes, block_class, ("video",))
    if not backward:
        cases |= {peer: build(sizes) for peer, build in peers.items()}
    flops = {name: count_flops(case, backward) for name, case in cases.items()}  # warms up, too
    seconds = take_turns(cases, backward, repetitions, sizes.device)

    def row(what: str, other: str, per_flop: bool = True) -> dict:
        scale = flops[other] / flops["both"] if per_flop else 1
        turns = [a / b * scale for a, b in zip(seconds["both"], seconds[other])]
        figures = {"ratio": statistics.median(turns), "turns": turns}
        return {"pass": "forward+backward" if backward else "forward", "block": name, "what": what} | figures

    yield row("(a) over the floor", "floor", per_flop=False)
    yield row("(c) audio branch over its FLOPs", "video")
    for peer in () if backward else peers:
        yield row(f"(b) time per FLOP over {peer}", peer)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--dim", type=int, default=1536, help="width; heads have 128 channels")
    parser.add_argument("--tokens", type=int, default=1792, help="video tokens, a multiple of 256")
    parser.add_argument("--audio_tokens", type=int, default=60)
    parser.add_argument("--text_tokens", type=int, default=128, help="text tokens of each branch")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--threads", type=int, help="CPU threads; with 1, CPU time is counted, not wall time")
    parser.add_argument("--forward_only", action="store_true", help="leave out forward+backward")
    parser.add_argument("--json", metavar="FILE", help="also write all figures to a file")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    torch.manual_seed(0)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    sizes = Sizes(args)
    rate = measured_matrix_rate(sizes, 2048 if sizes.device.type == "cpu" else 8192)
    print(
        f"torch {torch.__version__}, {args.device}, {torch.get_num_threads()} threads, {args.dtype}, D {sizes.dim}, "
        f"V {sizes.video}, A {sizes.audio}, text 2 x {sizes.text}; one matrix product: {rate / 1e9:.0f} GFLOP/s",
        flush=True,
    )
    rows = []
    for backward in (False,) if args.forward_only else (False, True):
        for name in BLOCKS:
            for row in compare(sizes, name, args.repetitions, backward):
                rows.append(row)
                low, high = min(row["turns"]), max(row["turns"])
                print(
                    f"{row['pass']:17} {name:7} {row['what']:36} {row['ratio']:.3f}  ({low:.3f} to {high:.3f})",
                    flush=True,
                )
    if args.json:
        record = vars(args) | {"torch": torch.__version__, "machine": platform.machine(), "matrix_rate": rate}
        with open(args.json, "w") as file:
            json.dump(record | {"ratios": rows}, file, indent=1)


if __name__ == "__main__":
    sys.exit(command.run(main, parse_args()))
