# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Measure one thing on a GPU and print its figures as JSON Lines; `benchmarks/gpu.sh` runs all of them, each in time:

    python benchmarks/gpu_parts.py blocks
    python benchmarks/gpu_parts.py blocks --smoke      # in small, on a CPU: figures of no use, the same code

Weights are random and made on the card. Seconds are medians of wall time around `torch.accelerator.synchronize`, after
one call that is not counted. FLOPs are counted by torch on the eager model, and their rate is compared with that of
one large matrix product, the best of ten, in the same process. GiB are 2^30 bytes.
"""

import argparse
import gc
import inspect
import json
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKLWan, FirstBlockCacheConfig, TaylorSeerCacheConfig
from diffusers.models.attention_dispatch import AttentionBackendName
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from diffusers_jova import AutoencoderMMAudio, BigVGANVocoder, JoVAPipeline, JoVATransformer3DModel, command
from diffusers_jova.live_memory import GIB, default_dtype
from diffusers_jova.pipelines.random_pipeline import create_pipeline, draw_zero_parameters
from diffusers_jova.presets import AUDIO_MODES, PRESETS
from diffusers_jova.training.adapters import add_lora, quantize_base, weight_dtype
from diffusers_jova.training.config import LoraTrainingConfig, TrainingConfig
from diffusers_jova.training.dataset import Batch, Visit
from diffusers_jova.training.memory import BatchShape, estimate_memory
from diffusers_jova.training.optimization import create_optimizer, trainable
from diffusers_jova.training.step import LatentScales, training_step


ROOT = Path(__file__).parents[1]
Row = dict[str, Any]
CARD_CAP = 24 * GIB  # of the smaller card that the offload part makes of a large one
aten = torch.ops.aten
# torch counts the attention kernels of GPUs only
CPU_ATTENTION_FLOPS = {
    aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda g, q, k, v, *_, **__: sdpa_backward_flop_count(
        g, q, k, v
    ),
}


@dataclass(frozen=True)
class Clip:
    """A clip in latents, at 24 frames/s."""

    name: str
    grid: tuple[int, int, int]  # latent frames, rows, columns
    num_audio: int
    num_text: int = 512  # tokens of each text encoder

    @property
    def num_tokens(self) -> int:
        """Tokens of both branches, with the two copies of the text."""
        frames, rows, columns = self.grid
        return frames * (rows // 2) * (columns // 2) + self.num_audio + 4 * self.num_text


SMALL_480P = Clip("480 x 832, 33 frames", (9, 60, 104), 60)
CLIPS = (Clip("480 x 832, 121 frames", (31, 60, 104), 218), Clip("720 x 1280, 121 frames", (31, 90, 160), 218))
SMOKE_CLIP = Clip("smoke", (2, 4, 4), 9, num_text=3)
SMOKE_SIZES = {
    "num_attention_heads": 2,
    "attention_head_dim": 32,
    "num_layers": 1,
    "num_single_layers": 1,
    "text_embed_dim": 64,
    "text_embed_dim_2": 64,
}


class Bench:
    """Where, in which dtype and in which sizes is measured: on the accelerator, or in small on a CPU."""

    def __init__(self, smoke: bool):
        if not smoke and not torch.accelerator.is_available():
            raise ValueError("There is no GPU here, and on a CPU this takes days. --smoke tries all of it in small.")
        self.smoke = smoke
        self.device = torch.device("cpu") if smoke else torch.accelerator.current_accelerator()
        self.dtype = torch.bfloat16
        self.clips = (SMOKE_CLIP,) if smoke else CLIPS
        self.short_clip = SMOKE_CLIP if smoke else SMALL_480P
        self.repetitions = 1 if smoke else 3
        self._matrix_rate: float | None = None

    @property
    def card(self) -> str:
        return "CPU" if self.device.type == "cpu" else torch.cuda.get_device_name(self.device)

    @property
    def matrix_rate(self) -> float:
        """FLOP/s of one large square matrix product, the best of ten."""
        if self._matrix_rate is None:
            size = 64 if self.smoke else 8192
            a, b = self.randn(size, size), self.randn(size, size)
            seconds = min(self.seconds(lambda: torch.mm(a, b)) for _ in range(10))
            self._matrix_rate = 2 * size**3 / seconds
        return self._matrix_rate

    def randn(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=self.device, dtype=self.dtype)

    def sizes(self, preset: str, **overrides: Any) -> dict[str, Any]:
        """Return the transformer's config: of a preset, or small."""
        return PRESETS[preset] | (SMOKE_SIZES if self.smoke else {}) | overrides

    def transformer(self, preset: str, dtype: torch.dtype | None = None, **overrides: Any) -> JoVATransformer3DModel:
        """Return a transformer with random weights on the device, in the dtypes that loading gives it."""
        self.free()
        with self.device, default_dtype(dtype or self.dtype):
            transformer = JoVATransformer3DModel(**self.sizes(preset, **overrides))
        draw_zero_parameters(transformer)
        for name, module in transformer.named_modules():
            if name.rpartition(".")[2] in transformer._keep_in_fp32_modules:
                module.float()
        return transformer.eval().requires_grad_(False)

    def inputs(self, transformer: JoVATransformer3DModel, clip: Clip) -> dict[str, Any]:
        """Return random arguments of `forward`, one sample."""
        config = transformer.config
        return {
            "hidden_states": self.randn(1, config.in_channels, *clip.grid),
            "audio_hidden_states": self.randn(1, config.audio_in_channels, clip.num_audio),
            "encoder_hidden_states": self.randn(1, clip.num_text, config.text_embed_dim),
            "encoder_hidden_states_2": self.randn(1, clip.num_text, config.text_embed_dim_2),
            "timestep": torch.full((1,), 500.0, device=self.device),
            "return_dict": False,
        }

    def compile(self, compile: Callable[..., Any]) -> None:
        """Call a model's or block's `compile`, for shapes that stay; the smoke run stops before kernels are made."""
        torch._dynamo.reset()
        compile(dynamic=False, **({"backend": "eager"} if self.smoke else {}))

    def seconds(self, run: Callable[[], Any]) -> float:
        self.synchronize()
        start = time.perf_counter()
        run()
        self.synchronize()
        return time.perf_counter() - start

    def synchronize(self) -> None:
        if self.device.type != "cpu":
            torch.accelerator.synchronize()

    def measure(self, run: Callable[[], Any], num_tokens: int, flops: int | None = None) -> Row:
        """Return the figures of a call: seconds, and those of the first one, tokens and FLOPs per second, memory."""
        first = self.seconds(run)
        if self.device.type != "cpu":
            torch.accelerator.reset_peak_memory_stats()
        seconds = statistics.median(self.seconds(run) for _ in range(self.repetitions))
        row: Row = {"seconds": seconds, "first_s": first, "tokens_per_s": num_tokens / seconds}
        if self.device.type != "cpu":
            row["peak_gib"] = torch.accelerator.max_memory_allocated() / GIB
        if flops is not None:
            row |= {"tflop_per_s": flops / seconds / 1e12, "of_matrix_rate": flops / seconds / self.matrix_rate}
        return row

    def free(self) -> None:
        """Give back the memory of what was let go, so that the next model fits."""
        torch._dynamo.reset()
        gc.collect()
        if self.device.type != "cpu":
            torch.accelerator.empty_cache()


def count_flops(run: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION_FLOPS) as counter:
        run()
    return counter.get_total_flops()


# --- the parts, each a generator of rows ---


@torch.no_grad()
def card(bench: Bench) -> Iterator[Row]:
    """What the card is, its rate for one matrix product and for one copy: all other figures are read against these."""
    elements = 2**10 if bench.smoke else 2**30
    source, target = bench.randn(elements), bench.randn(elements)
    seconds = min(bench.seconds(lambda: target.copy_(source)) for _ in range(3))
    facts: Row = {"what": "card", "matrix_tflop_per_s": bench.matrix_rate / 1e12}
    facts["copy_gb_per_s"] = 2 * elements * source.element_size() / seconds / 1e9
    if bench.device.type == "cuda":
        facts["memory_gib"] = torch.cuda.get_device_properties(bench.device).total_memory / GIB
        facts["capability"] = ".".join(map(str, torch.cuda.get_device_capability(bench.device)))
        facts["cuda"] = torch.version.cuda
    yield facts


def tests(bench: Bench) -> Iterator[Row]:
    """The tests that need a GPU. Without one they are found and skipped."""
    files = ["tests/pipelines/test_caches_and_offload.py", "tests/pipelines/test_saving_and_loading.py"]
    options = ["-q", "-m", "gpu", "-p", "no:cacheprovider", *(["--collect-only"] if bench.smoke else [])]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *files], cwd=ROOT, capture_output=True, text=True, check=False
    )
    last = (done.stdout.strip().splitlines() or ["nothing was printed"])[-1]
    if done.returncode:
        print(done.stdout[-3000:], done.stderr[-3000:], file=sys.stderr)
        raise RuntimeError(f"pytest ended with {done.returncode}: {last}")
    yield {"what": "tests marked gpu", "result": last}


@torch.no_grad()
def blocks(bench: Bench) -> Iterator[Row]:
    """One block of each kind of jova-24b, eager and compiled."""
    for clip in bench.clips:
        for kind in ("transformer_blocks", "single_transformer_blocks"):
            yield from block_rows(bench, clip, kind)


def block_rows(bench: Bench, clip: Clip, kind: str) -> Iterator[Row]:
    """Yield the figures of the first block of a kind, on what the transformer gives it."""
    transformer = bench.transformer("jova-24b", num_layers=1, num_single_layers=1)
    block = transformer.get_submodule(kind)[0]
    calls: list[partial] = []
    hook = block.register_forward_pre_hook(
        lambda block, args, kwargs: calls.append(partial(block, *args, **kwargs)), with_kwargs=True
    )
    transformer(**bench.inputs(transformer, clip))
    hook.remove()
    flops = count_flops(calls[0])
    for mode in ("eager", "compiled"):
        if mode == "compiled":
            bench.compile(block.compile)
        what = "single-stream block" if kind.startswith("single") else "multi-stream block"
        row = {"what": what, "model": "jova-24b", "clip": clip.name, "mode": mode}
        yield row | bench.measure(calls[0], clip.num_tokens, flops)


def forward_rows(bench: Bench, preset: str, clip: Clip, modes: tuple[str, ...]) -> Iterator[Row]:
    """Yield the figures of one forward pass of a whole transformer, in each mode."""
    transformer = bench.transformer(preset)
    run = partial(transformer, **bench.inputs(transformer, clip))
    flops = count_flops(run)
    for mode in modes:
        if mode == "blocks compiled":
            bench.compile(transformer.compile_repeated_blocks)
        elif mode == "compiled whole":
            bench.compile(transformer.compile)
        row = {"what": "forward", "model": preset, "clip": clip.name, "mode": mode}
        yield row | bench.measure(run, clip.num_tokens, flops)


@torch.no_grad()
def forward(bench: Bench) -> Iterator[Row]:
    """jova-3.2b whole, eager and with its blocks compiled."""
    for clip in bench.clips:
        yield from forward_rows(bench, "jova-3.2b", clip, ("eager", "blocks compiled"))


@torch.no_grad()
def forward_24b(bench: Bench) -> Iterator[Row]:
    """jova-24b whole at 480p, eager and with its blocks compiled."""
    yield from forward_rows(bench, "jova-24b", bench.clips[0], ("eager", "blocks compiled"))


@torch.no_grad()
def compiled_whole(bench: Bench) -> Iterator[Row]:
    """jova-3.2b compiled as one graph, at 480p; the first call is the compiler's time."""
    yield from forward_rows(bench, "jova-3.2b", bench.clips[0], ("compiled whole",))


@torch.no_grad()
def attention(bench: Bench) -> Iterator[Row]:
    """The attention of one block of jova-24b by each backend that is there, and how far it is from the first one."""
    clip = bench.clips[0]
    transformer = bench.transformer("jova-24b", num_layers=1, num_single_layers=0)
    heads, head_dim = transformer.config.num_attention_heads, transformer.config.attention_head_dim
    query, key, value = (bench.randn(1, clip.num_tokens, heads, head_dim) for _ in range(3))
    reference = None
    names = [name.value for name in AttentionBackendName]
    # "native" first, to compare with; plain matrix products would keep (tokens, tokens) for each head
    names = ["native", *(name for name in names if name != "native" and (bench.smoke or name != "_native_math"))]
    for name in names:
        row = {"what": "attention", "model": "jova-24b", "clip": clip.name, "backend": name}
        try:
            transformer.set_attention_backend(name)
            processor = transformer.transformer_blocks[0].attn.processor
            run = partial(processor.attend, query, key, value, None)
            output = run().float()
            reference = output if reference is None else reference
            figures = bench.measure(run, clip.num_tokens, 4 * clip.num_tokens**2 * heads * head_dim)
        except Exception as error:  # a package that is not installed, a card or dtype that it does not know
            yield row | {"unavailable": command.describe(error)[:160]}
        else:
            yield row | figures | {"difference": ((output - reference).norm() / reference.norm()).item()}


def training(bench: Bench) -> Iterator[Row]:
    """A step of a LoRA and of whole weights of jova-3.2b, and the memory that `--dry_run` foresees."""
    clip = bench.clips[0]
    settings: dict[str, Any] = dict.fromkeys(("model", "cache_dir", "output_dir"), "not read")
    settings |= {"mixed_precision": "bf16", "gradient_checkpointing": True}
    for what, cls in (("LoRA step", LoraTrainingConfig), ("step of whole weights", TrainingConfig)):
        yield {"what": what, "model": "jova-3.2b", "clip": clip.name} | train(bench, clip, cls(**settings))


def train(bench: Bench, clip: Clip, config: TrainingConfig) -> Row:
    """Return the figures of an optimizer step."""
    transformer = bench.transformer("jova-3.2b", dtype=weight_dtype(config)).train()
    flops = 3 * count_forward_flops(bench, transformer, clip)  # the backward pass has twice those of the forward pass
    if isinstance(config, LoraTrainingConfig):
        add_lora(transformer, config.lora_modalities, config.rank, config.alpha)
    else:
        transformer.requires_grad_(True)
    transformer.enable_gradient_checkpointing()
    optimizer = create_optimizer(trainable(transformer), config)
    batch, scales = training_batch(bench, transformer, clip), latent_scales(transformer)
    losses = []

    def step() -> None:
        with autocast(bench):
            loss = training_step(transformer, batch, scales, config).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable(transformer), config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())

    figures = bench.measure(step, clip.num_tokens, flops)
    sizes = bench.sizes("jova-3.2b")
    texts = tuple((clip.num_text, sizes.get(name, default)) for name, default in TEXT_WIDTHS.items())
    shape = BatchShape(1, (16, *clip.grid), (sizes["audio_in_channels"], clip.num_audio), texts)
    foreseen = estimate_memory(sizes, shape, config, weight_dtype(config), bench.device.type)
    return figures | {"foreseen_gib": foreseen.peak / GIB, "loss": losses[-1]}


TEXT_WIDTHS = {"text_embed_dim": 4096, "text_embed_dim_2": 5120}


def autocast(bench: Bench):
    return torch.autocast(bench.device.type, bench.dtype)


@torch.no_grad()
def count_forward_flops(bench: Bench, transformer: JoVATransformer3DModel, clip: Clip) -> int:
    with autocast(bench):
        return count_flops(partial(transformer, **bench.inputs(transformer, clip)))


def training_batch(bench: Bench, transformer: JoVATransformer3DModel, clip: Clip) -> Batch:
    """Return a batch of one random clip."""
    config, (frames, rows, columns) = transformer.config, clip.grid
    mask = torch.ones(1, clip.num_text, dtype=torch.bool, device=bench.device)
    mouth = torch.zeros(1, frames, rows, columns, dtype=torch.bool, device=bench.device)
    mouth[..., : rows // 4, : columns // 4] = True
    return Batch(
        visits=[Visit("random", 0)],
        frame_rate=24.0,
        video_moments=bench.randn(1, 32, *clip.grid),
        image_moments=bench.randn(1, 32, 1, rows, columns),
        filler_moments=bench.randn(1, 32, 1, rows, columns),
        mouth_mask=mouth,
        audio_moments=bench.randn(1, 2 * config.audio_in_channels, clip.num_audio),
        prompt_embeds=bench.randn(1, clip.num_text, config.text_embed_dim),
        prompt_attention_mask=mask,
        prompt_embeds_2=bench.randn(1, clip.num_text, config.text_embed_dim_2),
        prompt_attention_mask_2=mask,
    )


def latent_scales(transformer: JoVATransformer3DModel) -> LatentScales:
    with init_empty_weights():
        vae, audio_vae = AutoencoderKLWan(), AutoencoderMMAudio(**AUDIO_MODES["44k"].autoencoder)
    return LatentScales(vae.config, audio_vae.config, transformer.config.in_channels)


@torch.no_grad()
def sampling(bench: Bench) -> Iterator[Row]:
    """Steps of jova-3.2b's pipeline: plain, with caches that skip, and with what makes them cheaper.

    Whether a cache may skip is a question of weights that were trained: FirstBlockCache is made to skip every step but
    the first, so its figure is what a skipped step costs.
    """
    pipe = random_pipeline(bench)
    clip, transformer, num_steps = bench.short_clip, pipe.transformer, 3 if bench.smoke else 10
    config = transformer.config
    embeds = {
        f"{prefix}prompt_embeds{suffix}": bench.randn(1, clip.num_text, width)
        for prefix in ("", "negative_")
        for suffix, width in (("", config.text_embed_dim), ("_2", config.text_embed_dim_2))
    }

    def call(**options: Any) -> None:
        generator = torch.Generator().manual_seed(0)
        settings = {"num_inference_steps": num_steps, "guidance_scale": 3.0, "output_type": "latent"} | options
        pipe(**embeds, generator=generator, **settings)

    def row(what: str, **options: Any) -> Row:
        figures = bench.measure(partial(call, **options), clip.num_tokens * num_steps)
        names = {"what": what, "model": "jova-3.2b", "clip": clip.name}
        return names | figures | {"step_s": figures["seconds"] / num_steps}

    yield row("steps, plain")
    if "batch_guidance" in inspect.signature(pipe.__call__).parameters:
        yield row("steps, guidance in one batch", batch_guidance=True)
    for name, cache in (
        ("FirstBlockCache, all but the first skipped", FirstBlockCacheConfig(threshold=1e6)),
        ("TaylorSeer, every fifth computed", TaylorSeerCacheConfig(cache_interval=5, disable_cache_before_step=1)),
    ):
        transformer.enable_cache(cache)
        yield row(f"steps, {name}")
        transformer.disable_cache()
    if hasattr(pipe, "enable_modulation_cache"):
        pipe.enable_modulation_cache()
        yield row("steps, modulation cache")


def random_pipeline(bench: Bench) -> JoVAPipeline:
    """Return a pipeline of jova-3.2b without text encoders, whose decoders are small: latents are what it makes."""
    small, mode, clip = create_pipeline(), AUDIO_MODES["44k"], bench.short_clip
    pipe = JoVAPipeline(
        vae=small.vae,
        audio_vae=AutoencoderMMAudio(**mode.autoencoder, hidden_channels=32),
        vocoder=BigVGANVocoder(**mode.vocoder | {"upsample_initial_channel": 128}),
        transformer=bench.transformer("jova-3.2b"),
        scheduler=small.scheduler,
        num_frames=4 * (clip.grid[0] - 1) + 1,
        height=8 * clip.grid[1],
        width=8 * clip.grid[2],
    )
    pipe.set_progress_bar_config(disable=True)
    for name in ("vae", "audio_vae", "vocoder"):
        getattr(pipe, name).to(bench.device, bench.dtype)
    return pipe


@torch.no_grad()
def storage(bench: Bench) -> Iterator[Row]:
    """jova-24b at 480p with its blocks stored in float8, and in bitsandbytes' 4 bits."""
    for number_format in ("float8", "nf4"):
        yield stored_row(bench, bench.clips[0], number_format)


def stored_row(bench: Bench, clip: Clip, number_format: str) -> Row:
    transformer = bench.transformer("jova-24b")
    run = partial(transformer, **bench.inputs(transformer, clip))
    row = {"what": "forward", "model": "jova-24b", "clip": clip.name, "mode": f"blocks stored in {number_format}"}
    flops = count_flops(run)
    if number_format == "float8":
        transformer.enable_layerwise_casting(torch.float8_e4m3fn, bench.dtype)
    else:
        try:
            quantize_base(transformer, number_format, bench.device)
        except ValueError as error:  # bitsandbytes is not installed
            return row | {"unavailable": command.describe(error)}
    bench.free()
    return row | bench.measure(run, clip.num_tokens, flops)


@torch.no_grad()
def offload(bench: Bench) -> Iterator[Row]:
    """jova-24b at 480p where the process may use 24 GiB of the card: blocks are brought one at a time."""
    clip = bench.clips[0]
    transformer = transformer_on_the_host(bench)
    if bench.device.type == "cuda":
        total = torch.cuda.get_device_properties(bench.device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(CARD_CAP / total, 1.0))
    inputs = bench.inputs(transformer, clip)
    row = {"what": "forward", "model": "jova-24b", "clip": clip.name, "mode": "24 GiB, group offload"}
    if hasattr(transformer, "precompute_modulation"):
        transformer.precompute_modulation(inputs["timestep"], device=bench.device)
        row["mode"] += ", modulation cache"
    streams = {} if bench.device.type == "cpu" else {"use_stream": True, "record_stream": True, "non_blocking": True}
    transformer.enable_group_offload(
        onload_device=bench.device, offload_type="block_level", num_blocks_per_group=1, **streams
    )
    yield row | bench.measure(partial(transformer, **inputs), clip.num_tokens)


def transformer_on_the_host(bench: Bench) -> JoVATransformer3DModel:
    """Return jova-24b in main memory. The card draws its weights: a CPU would take minutes for 24.6 B numbers."""
    with torch.device("meta"), default_dtype(bench.dtype):
        transformer = JoVATransformer3DModel(**bench.sizes("jova-24b"))
    for module in transformer.modules():
        for name, parameter in module.named_parameters(recurse=False):
            values = (0.02 * bench.randn(*parameter.shape)).to("cpu")
            setattr(module, name, torch.nn.Parameter(values, requires_grad=False))
    return transformer.eval()


def peers(bench: Bench) -> Iterator[Row]:
    """Blocks of diffusers' LTX2, Kandinsky6 and Flux2 beside ours, at equal width and tokens."""
    clip = bench.clips[0]
    rows, columns = clip.grid[1] // 2, clip.grid[2] // 2
    tokens = max(clip.grid[0] * rows * columns // 256, 1) * 256
    sizes = {"dim": 128 if bench.smoke else 3072, "tokens": tokens, "audio_tokens": clip.num_audio}
    sizes |= {"text_tokens": 2 * clip.num_text, "repetitions": 1 if bench.smoke else 5}
    options = [f"--{name}={value}" for name, value in sizes.items()]
    with tempfile.NamedTemporaryFile("r", suffix=".json") as file:
        options += ["--forward_only", "--device", str(bench.device), "--dtype=bfloat16", "--json", file.name]
        run_script(ROOT / "benchmarks" / "transformer.py", options)
        ratios = json.load(file)["ratios"]
    for ratio in ratios:
        yield {"what": f"{ratio['block']}-stream block, {ratio['what']}", "clip": clip.name, "ratio": ratio["ratio"]}


def run_script(path: Path, arguments: list[str]) -> None:
    """Run a program of ours in this process, which has imported what it needs; its output goes to the error stream."""
    before = sys.argv, sys.stdout
    sys.argv, sys.stdout = [str(path), *arguments], sys.stderr
    try:
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise RuntimeError(f"{path.name} ended with {end.code}.") from end
    finally:
        sys.argv, sys.stdout = before


PARTS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    function.__name__: function
    for function in (
        *(card, tests, blocks, forward, forward_24b, training, sampling),
        *(offload, storage, attention, peers, compiled_whole),
    )
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS, help="what to measure")
    parser.add_argument("--smoke", action="store_true", help="in small, on the CPU: tries the code, measures nothing")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    torch.manual_seed(0)
    bench = Bench(args.smoke)
    facts = {
        "part": args.part,
        "card": bench.card,
        "torch": torch.__version__,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }
    for row in PARTS[args.part](bench):
        print(json.dumps(facts | row), flush=True)


if __name__ == "__main__":
    sys.exit(command.run(main, parse_args()))
