# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What a LoRA run ends with: proof of what it learned, in numbers and in plain words, and a model card."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn

from ..latents import num_audio_samples
from ..pipelines.pipeline_jova import JoVAPipeline
from ..pipelines.pipeline_output import JoVAPipelineOutput
from .adapters import LORA_FILE, MODALITIES
from .config import LoraTrainingConfig, to_dict
from .dataset import CachedClips
from .validation import call_pipeline, write_clip


LATENTS = ("video", "audio")


@dataclass
class Proof:
    """What was measured at the end of a LoRA run.

    Attributes:
        updates: Per modality, the norm of the LoRA's update and of the weights under it.
        num_frozen: Tensors outside the LoRA, and how many of them changed (none should).
        strength_0: Per modality, whether strength 0 makes the same latents as the base, bit for bit.
        strength_1: Per modality, how far strength 1 goes from the base: root mean square of the latents' difference.
        num_clips: Clips with each modality that the run could learn from.
        samples: Files made with strength 0 and 1.
    """

    updates: dict[str, tuple[float, float]]
    num_frozen: int
    num_frozen_changed: int
    num_clips: dict[str, int]
    strength_0: dict[str, bool] = field(default_factory=dict)
    strength_1: dict[str, float] = field(default_factory=dict)
    samples: dict[str, str] = field(default_factory=dict)


def hash_frozen(transformer: nn.Module) -> dict[str, str]:
    """Return a hash of each parameter that does not learn."""
    return {name: hash_tensor(p) for name, p in transformer.named_parameters() if not p.requires_grad}


def hash_tensor(tensor: torch.Tensor) -> str:
    content = tensor.detach().contiguous().cpu().flatten().view(torch.uint8).numpy()
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def count_changed(before: dict[str, str], after: dict[str, str]) -> int:
    """Return how many tensors differ, or are there only once."""
    return sum(before.get(name) != after.get(name) for name in before.keys() | after.keys())


def count_clips(clips: CachedClips) -> dict[str, int]:
    """Return how many clips have each modality."""
    return {name: sum(name in modalities for modalities in clips.modalities.values()) for name in LATENTS}


@torch.no_grad()
def compare_strengths(
    proof: Proof, pipe: JoVAPipeline, prompt: dict[str, Any], config: LoraTrainingConfig, device: torch.device
) -> None:
    """Make a clip with the base, then with the saved LoRA at strength 0 and 1, and enter in `proof` how they differ.

    Args:
        pipe: Around a base transformer that was loaded anew, so that the file is tested, not the memory of the run.
        prompt: Encoded arguments of the pipeline's call.
    """

    def make(**options: Any) -> dict[str, torch.Tensor]:
        output = call_pipeline(pipe, prompt, config.validation_seed, device, output_type="latent", **options)
        latents = {"video": output.frames, "audio": output.audio}
        return {name: tensor for name, tensor in latents.items() if tensor is not None}

    base = make()
    pipe.load_lora_weights(config.output_dir, weight_name=LORA_FILE)
    clips = {strength: make(attention_kwargs={"scale": float(strength)}) for strength in (0, 1)}
    for name in base:
        proof.strength_0[name] = torch.equal(base[name], clips[0][name])
        proof.strength_1[name] = (base[name] - clips[1][name]).square().mean().sqrt().item()
    for strength, latents in clips.items():
        path = write_clip(Path(config.output_dir) / "samples" / f"strength_{strength}", decode(pipe, latents, prompt))
        proof.samples[str(strength)] = str(path.relative_to(config.output_dir))


def decode(pipe: JoVAPipeline, latents: dict[str, torch.Tensor], prompt: dict[str, Any]) -> JoVAPipelineOutput:
    """Return the clip of latents that the pipeline's call returned."""
    frame_rate = prompt.get("frame_rate") or pipe.config.frame_rate
    num_frames = prompt.get("num_frames") or pipe.config.num_frames
    frames = audio = None
    if "video" in latents:
        frames = pipe.decode_latents(latents["video"], "np")
    if "audio" in latents:
        num_samples = num_audio_samples(num_frames, frame_rate, pipe.audio_sampling_rate)
        audio = pipe.decode_audio_latents(latents["audio"], num_samples, "np")
    return JoVAPipelineOutput(
        frames=frames, audio=audio, audio_sampling_rate=pipe.audio_sampling_rate, frame_rate=frame_rate
    )


def describe(proof: Proof) -> str:
    """Return the proof in plain words, one line per finding."""
    lines = ["What the LoRA learned"]
    for modality in MODALITIES:
        lines.append(f"  {modality}: {describe_update(modality, proof)}")
    changed = f"{proof.num_frozen_changed} of {proof.num_frozen} tensors CHANGED, which must not happen"
    same = f"all {proof.num_frozen} tensors are bit-identical to the base"
    lines.append(f"  outside the LoRA: {changed if proof.num_frozen_changed else same}")
    for modality, is_equal in proof.strength_0.items():
        lines.append(
            f"  {modality} at strength 0: "
            + ("equals the base bit for bit" if is_equal else "DIFFERS from the base, which must not happen")
        )
        distance = proof.strength_1[modality]
        lines.append(
            f"  {modality} at strength 1: "
            + (f"differs from the base by {distance:.3g} (rms of latents)" if distance else "equals the base")
        )
    return "\n".join(lines)


def describe_update(modality: str, proof: Proof) -> str:
    """Return how far a modality moved; if it did not, why."""
    if modality not in proof.updates:
        return "was not trained; `lora_modalities` does not name it"
    update, weights = proof.updates[modality]
    if update > 0:
        return f"moved by {update:.3g}, {100 * update / weights:.2g} % of the norm {weights:.3g} of its weights"
    if proof.num_clips.get(modality) == 0:
        missing = {"video": "pictures", "audio": "sound"}[modality]
        return f"DID NOT MOVE: no clip in the cache has {missing}, so this LoRA changes nothing there"
    return "DID NOT MOVE: its update is exactly zero, so this LoRA changes nothing there"


def write_proof(proof: Proof, folder: str | Path) -> None:
    (Path(folder) / "proof.json").write_text(json.dumps(asdict(proof), indent=2) + "\n", encoding="utf-8")


# --- model card ---


def model_card(config: LoraTrainingConfig, proof: Proof, captions: Iterable[str], steps: int) -> str:
    """Return README.md: what this is, how to use it, what it was made with, what it learned."""
    title = config.lora_name or Path(config.output_dir).resolve().name
    captions = "\n".join(f"- {caption}" for caption in captions)
    samples = "\n".join(f"- strength {strength}: [{name}]({name})" for strength, name in proof.samples.items())
    settings = "\n".join(f"| `{name}` | {json.dumps(value)} |" for name, value in to_dict(config).items())
    return f"""---
library_name: diffusers
base_model: {Path(config.model).name}
tags: [lora, diffusers, diffusers-jova, text-to-video, text-to-audio]
---

# {title}

A LoRA for JoVA (joint video and sound generation), trained with diffusers-jova: {steps} steps, rank {config.rank},
alpha {config.alpha:g}, on {", ".join(f"{count} clip(s) with {name}" for name, count in proof.num_clips.items())}.

```python
from diffusers_jova import JoVAPipeline

pipe = JoVAPipeline.from_pretrained("path/to/{Path(config.model).name}")
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
