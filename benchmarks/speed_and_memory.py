# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Write docs/speed_and_memory.md from the figures in benchmarks/figures:

    python benchmarks/speed_and_memory.py              # the page
    python benchmarks/speed_and_memory.py --check      # whether the page is what the figures give
    python benchmarks/speed_and_memory.py --count      # memory.jsonl again, some minutes on a CPU, then the page

memory.jsonl is counted on shapes. gpu.jsonl is what `benchmarks/gpu.sh --output benchmarks/figures/gpu.jsonl` measured
on a card; without that file the page says that it was not run.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from diffusers_jova import command
from diffusers_jova.files import whole_file
from diffusers_jova.headers import read_json_lines


ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "benchmarks" / "figures"
PAGE = ROOT / "docs" / "speed_and_memory.md"
COUNT = "python benchmarks/speed_and_memory.py --count"
Row = dict[str, Any]

GIB = 2**30
# GiB that the driver gives on a usual card of the class, and what is left alone for what is not counted (our choice)
CARDS = {"12 GB": 12.0, "24 GB": 24.0, "48 GB": 48.0, "80 GB": 79.6, "141 GB": 140.4}
RESERVE = 1.0
MODELS = ("jova-3.2b", "jova-24b")
CLIPS = {"480 × 832, 5 s": (480, 832, 121), "720 × 1280, 5 s": (720, 1280, 121), "720 × 1280, 10 s": (720, 1280, 241)}


class Way(NamedTuple):
    """A way to hold the transformer: what to call, and how its weights are counted."""

    what: str
    code: str
    options: dict[str, Any]
    is_alone: bool = True  # the decoders wait in main memory, as by `--cpu_offload`


# from the plainest on; the last one changes the clip
WAYS = {
    "A": Way("bfloat16, all on the card", '`pipe.to("cuda")`', {}, is_alone=False),
    "B": Way("bfloat16, one component at a time", "`pipe.enable_model_cpu_offload()`, `--cpu_offload`", {}),
    "C": Way(
        "B, modulation cache",
        "`pipe.enable_modulation_cache()` before, `--modulation_cache`",
        {"modulation_cache": True},
    ),
    "D": Way(
        "modulation cache, blocks fetched one at a time",
        '`pipe.transformer.enable_group_offload(torch.device("cuda"), num_blocks_per_group=1, use_stream=True)`, '
        "`--group_offload`",
        {"modulation_cache": True, "one_block": True},
        is_alone=False,
    ),
    "E": Way(
        "C, blocks stored in float8",
        "`pipe.transformer.enable_layerwise_casting(torch.float8_e4m3fn, torch.bfloat16)` before, "
        "`--layerwise_casting`",
        {"modulation_cache": True, "float8": True},
    ),
}


# --- counting ---


def count() -> Iterator[Row]:
    """Yield the GiB of each way, and of training."""
    import torch
    from diffusers import AutoencoderKLWan

    from diffusers_jova import AutoencoderMMAudio, BigVGANVocoder
    from diffusers_jova.pipelines.memory import CallMemory, Clip, TransformerOutline, decoder_activations
    from diffusers_jova.presets import AUDIO_MODES, PRESETS

    mode = AUDIO_MODES["44k"]
    with torch.device("meta"):
        decoders = {
            "vae": AutoencoderKLWan(),
            "audio_vae": AutoencoderMMAudio(**mode.autoencoder, hidden_channels=512),
            "vocoder": BigVGANVocoder(**mode.vocoder),
        }
    weights = {name: 2 * sum(p.numel() for p in part.parameters()) for name, part in decoders.items()}
    for name, (height, width, num_frames) in CLIPS.items():
        clip = Clip(height, width, num_frames)
        decoding = decoder_activations({}, clip, torch.bfloat16, AutoencoderKLWan)
        for model in MODELS:
            outline = TransformerOutline(PRESETS[model], torch.bfloat16)
            activations = {"transformer": outline.activations(clip), "vae": decoding}
            for key, way in WAYS.items():
                memory = CallMemory({"transformer": outline.weights(**way.options)} | weights, activations)
                needs = memory.offloaded_peak if way.is_alone else memory.peak
                row = {"what": "call", "model": model, "clip": name, "way": key, "gib": round(needs / GIB, 2)}
                row |= {f"{part}_activations_gib": round(size / GIB, 2) for part, size in activations.items()}
                yield row | {"command": COUNT}
    yield from count_training()


def count_training() -> Iterator[Row]:
    """Yield the GiB of training at 480p with gradient checkpointing, as `--dry_run` foresees them."""
    from diffusers_jova.presets import PRESETS
    from diffusers_jova.training.adapters import weight_dtype
    from diffusers_jova.training.config import LoraTrainingConfig, TrainingConfig
    from diffusers_jova.training.memory import BatchShape, estimate_memory

    settings: dict[str, Any] = dict.fromkeys(("model", "cache_dir", "output_dir"), "not read")
    settings |= {"mixed_precision": "bf16", "gradient_checkpointing": True}
    kinds: dict[str, tuple[str, Callable[[], Any]]] = {
        "LoRA": ("jova-3.2b", lambda: LoraTrainingConfig(**settings)),
        "LoRA, `--base_quantization nf4`": (
            "jova-24b",
            lambda: LoraTrainingConfig(**settings, base_quantization="nf4"),
        ),
        "all weights": ("jova-3.2b", lambda: TrainingConfig(**settings)),
        "all weights, `--use_8bit_adam`": ("jova-3.2b", lambda: TrainingConfig(**settings, use_8bit_adam=True)),
    }
    for what, (model, make) in kinds.items():
        config, texts = make(), ((512, 4096), (512, 5120))
        shape = BatchShape(1, (16, 31, 60, 104), (40, 218), texts)
        estimate = estimate_memory(PRESETS[model], shape, config, weight_dtype(config), "cuda")
        row = {"what": "training", "model": model, "clip": next(iter(CLIPS)), "way": what}
        yield row | {"gib": round(estimate.peak / GIB, 2), "command": COUNT}


# --- the page ---


def make_page(memory: list[Row], gpu: list[Row]) -> str:
    """Return the page."""
    calls = {(row["model"], row["clip"], row["way"]): row["gib"] for row in memory if row["what"] == "call"}
    training = [row for row in memory if row["what"] == "training"]
    return TEMPLATE.format(
        fits=fits_table(calls, gpu),
        needs=needs_table(calls),
        ways="\n".join(f"| {key} | {way.what} | {way.code} |" for key, way in WAYS.items()),
        training=training_table(training, gpu),
        measured=measured(gpu),
        count=COUNT,
        reserve=RESERVE,
    )


def fits_table(calls: dict[tuple, float], gpu: list[Row]) -> str:
    lines = [f"| model | clip | {' | '.join(CARDS)} | one pass on a card |", "|---|---|" + "---|" * (len(CARDS) + 1)]
    for model in MODELS:
        for clip in CLIPS:
            ways = [first_way(calls, model, clip, card) for card in CARDS.values()]
            lines.append(f"| {model} | {clip} | {' | '.join(ways)} | {pass_seconds(gpu, model, clip)} |")
    return "\n".join(lines)


def first_way(calls: dict[tuple, float], model: str, clip: str, card: float) -> str:
    """Return the plainest way that fits, with its GiB."""
    for way in WAYS:
        if calls[model, clip, way] + RESERVE <= card:
            return f"{way}, {calls[model, clip, way]:.1f}"
    return "–"


def pass_seconds(gpu: list[Row], model: str, clip: str) -> str:
    """Return the seconds of the fastest measured forward pass of a whole transformer."""
    size = ", ".join((clip.split(",")[0].replace("×", "x"), f"{CLIPS[clip][2]} frames"))
    rows = [row for row in gpu if row["what"] == "forward" and (row["model"], row["clip"]) == (model, size)]
    rows = [row for row in rows if "seconds" in row]
    if not rows:
        return "not run"
    best = min(rows, key=lambda row: row["seconds"])
    return f"{best['seconds']:.2f} s ({best['card']}, {best['mode']})"


def needs_table(calls: dict[tuple, float]) -> str:
    lines = [f"| model | clip | {' | '.join(WAYS)} |", "|---|---|" + "---:|" * len(WAYS)]
    for model in MODELS:
        for clip in CLIPS:
            lines.append(f"| {model} | {clip} | {' | '.join(f'{calls[model, clip, way]:.1f}' for way in WAYS)} |")
    return "\n".join(lines)


def training_table(training: list[Row], gpu: list[Row]) -> str:
    lines = ["| model | what learns | GiB, counted | GiB, taken | seconds per step |", "|---|---|---:|---:|---:|"]
    names = {"LoRA": "LoRA step", "all weights": "step of whole weights"}
    for row in training:
        found = [r for r in gpu if r["part"] == "training" and r["what"] == names.get(row["way"]) and "seconds" in r]
        taken = (f"{found[0]['peak_gib']:.1f}", f"{found[0]['seconds']:.2f}") if found else ("not run",) * 2
        lines.append(f"| {row['model']} | {row['way']} | {row['gib']:.1f} | {' | '.join(taken)} |")
    return "\n".join(lines)


def measured(gpu: list[Row]) -> str:
    """Return the tables of what was measured on a card, one per part, or that nothing was."""
    if not gpu:
        return NOT_RUN
    tables = []
    for part in dict.fromkeys(row["part"] for row in gpu):
        rows = [row for row in gpu if row["part"] == part]
        figures = [row for row in rows if row["what"] != "end"]
        ends = [row for row in rows if row["what"] == "end" and row["status"] != "ok"]
        title = figures[0] if figures else ends[0]
        where = ", ".join(str(title[name]) for name in ("card", "torch", "date") if name in title)
        tables.append(f"### {part}\n\n{where}. `benchmarks/gpu.sh --only {part}`\n\n{figure_table(figures)}")
        tables += [f"\nNot measured: {end['error']}" for end in ends]
    return "\n\n".join(tables)


def figure_table(rows: list[Row]) -> str:
    hidden = {"part", "card", "torch", "date", "command"}
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in hidden]
    lines = [f"| {' | '.join(names)} |", "|" + "---|" * len(names)] if names else []
    for row in rows:
        cells = [row.get(name, "") for name in names]
        lines.append(f"| {' | '.join(f'{x:.4g}' if isinstance(x, float) else str(x) for x in cells)} |")
    return "\n".join(lines)


NOT_RUN = """**Not run.** No card was at hand. `benchmarks/gpu.sh` measures all of it in less than 8 minutes and writes
it as JSON Lines; [its page](https://github.com/diffusers-jova/diffusers-jova/tree/main/benchmarks) says how. Its plan:
`benchmarks/gpu.sh --dry_run`."""

TEMPLATE = """# Speed and memory

Written by `python benchmarks/speed_and_memory.py` from the figures in `benchmarks/figures`; do not edit it by hand.

Memory is counted on shapes, by `{count}`: weights, and all tensors that are
there at a time in a forward pass and in the video decoder. What kernels, the allocator and CUDA take for themselves
is not counted; {reserve:g} GiB are left for them. Texts are encoded before, and elsewhere if need be: see
[What each part weighs](parts.md). GiB are 2^30 bytes.

## What fits

For each card the plainest way that fits, with the GiB that it needs; – where none does. Seconds are of one pass of the
transformer, and guidance takes two passes in a step.

{fits}

| way | what | how |
|---|---|---|
{ways}

A to D make the same clip. E, for a machine whose main memory is small, rounds the weights, and changes the clip. A
device that has no float8, such as Apple's, is refused.

## What each way needs

GiB of the card, the larger of denoising and decoding. At 720 × 1280 the decoder needs the most in some ways:
`pipe.vae.enable_tiling()`, `--vae_tiling`, makes it small.

{needs}

`generate` works out the same before it loads anything onto a card, and says what would fit. Way D, with texts that
`encode` wrote, by its flags and in Python:

```
diffusers-jova generate --model FOLDER --prompt_embeds prompt.safetensors --modulation_cache --group_offload \\
    --output out.mp4
```

```python
pipe = JoVAPipeline.from_pretrained(folder, dtype=torch.bfloat16, text_encoder=None, text_encoder_2=None)
pipe.enable_modulation_cache()
pipe.transformer.enable_group_offload(torch.device("cuda"), num_blocks_per_group=1, use_stream=True)
for name in ("vae", "audio_vae", "vocoder"):
    getattr(pipe, name).to("cuda")
output = pipe(**load_prompt_embeds("prompt.safetensors"))
```

## Training

One clip of 480 × 832, 5 s, in bfloat16 with `--gradient_checkpointing`: what `--dry_run` foresees.

{training}

## On a card

{measured}

On a CPU, where shares and ratios can be measured: `benchmarks/README.md`.
"""


def read_rows(name: str) -> list[Row]:
    path = FIGURES / name
    return [row for _, row in read_json_lines(path)] if path.is_file() else []


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 if the page is another one")
    parser.add_argument("--count", action="store_true", help="count memory.jsonl again first")
    return parser.parse_args()


def main(args: argparse.Namespace) -> int:
    if args.count:
        FIGURES.mkdir(exist_ok=True)
        with whole_file(FIGURES / "memory.jsonl") as partial, open(partial, "w", encoding="utf-8") as file:
            for row in count():
                print(json.dumps(row, ensure_ascii=False), file=file)
    page = make_page(read_rows("memory.jsonl"), read_rows("gpu.jsonl"))
    if args.check:
        is_same = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == page
        print(
            "The page is up to date."
            if is_same
            else f"Write {PAGE.name} again: python benchmarks/{Path(__file__).name}"
        )
        return 0 if is_same else 1
    with whole_file(PAGE) as partial:
        partial.write_text(page, encoding="utf-8")
    print(f"Wrote {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main, parse_args()))
