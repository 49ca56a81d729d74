# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The proof of a LoRA run in plain words, for the terminal and for the model card."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..evaluation.likeness import SAME_PERSON
from ..files import whole_file
from ..text import markdown, printable
from .adapters import MODALITIES
from .config import LoraTrainingConfig
from .dataset import CachedClips
from .flags import to_dict
from .proof import NUM_NOISES, Comparison, Proof


VERDICTS = {
    "nearer": "nearer to the clips than the base",
    "no better": "no better than the base",
    "worse": "WORSE than the base",
    "unknown": "one alone does not tell",
}


def describe(proof: Proof) -> str:
    """Return the proof in plain words, one line per finding, the verdict first."""
    lines = ["What the LoRA learned", *(f"  BEWARE: {alarm}." for alarm in proof.alarms)]
    if proof.losses:
        lines += [f"  in short: {in_short(proof)}"]
        where = (
            "held out of training" if proof.is_held_out else "that it was trained on (--num_held_out keeps some out)"
        )
        lines.append(f"  loss on {proof.num_judged} clip(s) {where}, {NUM_NOISES} noises each, less is nearer:")
        lines += [f"    {name}: {describe_comparison(comparison)}" for name, comparison in proof.losses.items()]
    if proof.likeness:
        number = max(comparison.number for comparison in proof.likeness.values())
        lines.append(
            f"  distance of {number} sample(s) to these clips, as the model's VAE shows them, less is nearer:"
        )
        lines += [f"    {name}: {describe_comparison(comparison)}" for name, comparison in proof.likeness.items()]
        if proof.faces_found:
            found = "{base} sample(s) of the base and {lora} of the LoRA".format(**proof.faces_found)
            lines.append(f"    a face was found in {found}; dlib takes faces nearer than {SAME_PERSON} for one person")
    lines.append("  weights, which tell how far it moved and not whether it got better:")
    for modality in MODALITIES:
        lines.append(f"    {modality}: {describe_update(modality, proof)}")
    changed = f"{proof.num_frozen_changed} of {proof.num_frozen} tensors CHANGED, which must not happen"
    same = f"all {proof.num_frozen} tensors are bit-identical to the base"
    lines.append(f"    outside the LoRA: {changed if proof.num_frozen_changed else same}")
    for modality, is_equal in proof.strength_0.items():
        lines.append(
            f"    {modality} at strength 0: "
            + ("equals the base bit for bit" if is_equal else "DIFFERS from the base, which must not happen")
        )
        distance = proof.strength_1[modality]
        lines.append(
            f"    {modality} at strength 1: "
            + (f"differs from the base by {distance:.3g} (rms of latents)" if distance else "equals the base")
        )
    return "\n".join(lines)


def in_short(proof: Proof) -> str:
    """Return the verdicts in one sentence: "video and faces are nearer to the clips than the base; ..."."""
    comparisons = {f"{name} loss": comparison for name, comparison in proof.losses.items()} | proof.likeness
    parts = []
    for verdict, text in VERDICTS.items():
        names = [name for name, comparison in comparisons.items() if comparison.verdict == verdict]
        if names:
            parts.append(f"{', '.join(names)}: {text}")
    return "; ".join(parts)


def describe_comparison(comparison: Comparison) -> str:
    """Return "base 0.221, LoRA 0.193, -12.7 % (95 % interval -15.2 to -10.1 %): nearer to the clips than the base"."""
    base, verdict = comparison.base, VERDICTS[comparison.verdict]
    text = f"base {base:.4g}, LoRA {comparison.lora:.4g}"
    if base > 0:
        text += f", {100 * (comparison.lora - base) / base:+.1f} %"
        if comparison.interval is not None:
            low, high = (100 * bound / base for bound in comparison.interval)
            text += f" (95 % interval {low:+.1f} to {high:+.1f} %)"
    return f"{text}: {verdict}"


def describe_update(modality: str, proof: Proof) -> str:
    """Return how far a modality moved; if it did not, why."""
    if modality not in proof.updates:
        return "was not trained; `lora_modalities` does not name it"
    update, weights = proof.updates[modality]
    if update > 0:
        return f"moved by {update:.3g}, {100 * update / weights:.2g} % of the norm {weights:.3g} of its weights"
    if proof.num_clips.get(modality) == 0:
        return f"DID NOT MOVE: no clip in the cache has {modality}, so this LoRA changes nothing there"
    return "DID NOT MOVE: its update is exactly zero, so this LoRA changes nothing there"


# --- model card ---

FOLDERS = ("model", "cache_dir", "output_dir", "video_transformer", "audio_transformer", "resume_from_checkpoint")


def public_settings(config: LoraTrainingConfig) -> dict[str, str]:
    """Return the settings as JSON, paths by their last name: where they lay on a machine is nobody's business."""

    def public(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: public(entry) for name, entry in value.items()}
        if isinstance(value, list | tuple):
            return [public(entry) for entry in value]
        is_path = isinstance(value, os.PathLike) or (isinstance(value, str) and value.startswith(("/", "~/", "../")))
        return Path(value).name if is_path else value

    settings = {
        name: Path(value).resolve().name if name in FOLDERS and value is not None else public(value)
        for name, value in to_dict(config).items()
    }
    return {name: json.dumps(value, ensure_ascii=False, default=str) for name, value in settings.items()}


def write_model_card(proof: Proof, clips: CachedClips, num_steps: int, config: LoraTrainingConfig) -> None:
    """Write README.md in `output_dir`, with the first captions of the clips trained on."""
    captions = dict.fromkeys(row.get("video_caption") or row.get("audio_caption") for row in clips.rows.values())
    card = model_card(config, proof, filter(None, list(captions)[:10]), num_steps)
    with whole_file(Path(config.output_dir, "README.md"), "") as partial:
        partial.write_text(card, encoding="utf-8")


def model_card(config: LoraTrainingConfig, proof: Proof, captions: Iterable[str], steps: int) -> str:
    """Return README.md: what this is, how to use it, what it was made with, what it learned."""
    title = config.lora_name or Path(config.output_dir).resolve().name
    captions = "\n".join(f"- {markdown(caption)}" for caption in captions)
    pairs = sorted(proof.samples.items(), key=lambda sample: (sample[0][1:], sample[0]))  # "0", "1", "0 (2)", "1 (2)"
    samples = "\n".join(f"- strength {strength}: [{name}]({name})" for strength, name in pairs)
    settings = "\n".join(f"| `{name}` | {markdown(value)} |" for name, value in public_settings(config).items())
    base = Path(config.model).resolve().name
    return f"""---
library_name: diffusers
base_model: {json.dumps(printable(base))}
tags: [lora, diffusers, diffusers-jova, text-to-video, text-to-audio]
---

# {markdown(title)}

A LoRA for JoVA (joint video and audio generation), trained with diffusers-jova: {steps} steps, rank {config.rank},
alpha {config.alpha:g}, on {", ".join(f"{count} clip(s) with {name}" for name, count in proof.num_clips.items())}.

```python
from diffusers_jova import JoVAPipeline

pipe = JoVAPipeline.from_pretrained({json.dumps(printable(f"path/to/{base}"), ensure_ascii=False)})
pipe.load_lora_weights("path/to/this/folder")
output = pipe(prompt="...", transcript="...", attention_kwargs={{"scale": 1.0}})
```

## Samples

{samples}

## What it learned

```
{describe(proof)}
```

## Captions it was trained with

{captions or "- none"}

## Settings

| setting | value |
|---|---|
{settings}

## Licence and people

A LoRA is bound by the licence of its base model (the published MMAudio weights, for one, are CC-BY-NC 4.0) and by the
rights in its clips: use faces and voices of people who agreed to it, and say that what it makes is generated.
"""
