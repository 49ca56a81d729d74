# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Tiny transformers of both classes, with inputs that fit them: what holds for one is tested on the other as well."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch

from diffusers_jova import JoVATransformer3DModel, JoVAWanTransformer3DModel
from diffusers_jova.models.attention import JoVAAttnProcessor


TEXT, TEXT_2 = "encoder_hidden_states", "encoder_hidden_states_2"
SHARED = {
    "in_channels": 6,
    "out_channels": 4,
    "audio_in_channels": 5,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "num_layers": 2,
    "text_embed_dim": 12,
    "audio_latent_rate": 31.25,
}


@dataclass(frozen=True)
class Tiny:
    """One class of transformers in a size that takes milliseconds.

    Attributes:
        texts: The arguments of its texts, each with that of its mask.
        text_tokens: Text tokens among the tokens of a branch, of the inputs.
        linears: Ends of the names of its linear layers inside the blocks, without `cross_linear`.
        islands: What stays in float32 in a model of half precision: parts of names.
    """

    cls: type
    config: dict[str, Any]
    texts: dict[str, str]
    text_tokens: int
    linears: tuple[str, ...]
    islands: tuple[str, ...]
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def model(self, **overrides):
        """Return a tiny model whose zero-initialised parameters are drawn, else its blocks are identities."""
        torch.manual_seed(0)
        model = self.cls(**self.config | overrides).eval()
        for parameter in model.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
        return model

    def inputs(self, seed: int = 0, **overrides) -> dict:
        generator = torch.Generator().manual_seed(seed)
        shapes = {"hidden_states": (2, 6, 3, 4, 4), "audio_hidden_states": (2, 5, 11), TEXT: (2, 6, 12)} | self.shapes
        tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
        return tensors | {"timestep": torch.tensor([700.0, 300.0]), "return_dict": False} | overrides

    @torch.no_grad()
    def run(self, model, **overrides) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        return model(**self.inputs(**overrides))

    def ragged_masks(self) -> dict:
        mask, mask_2 = torch.ones(2, 6), torch.ones(2, 4, dtype=torch.bool)
        mask[1, 4:] = 0
        mask_2[0, 3:] = False
        masks = {"encoder_attention_mask": mask, "encoder_attention_mask_2": mask_2}
        return {name: masks[name] for name in self.texts.values()}


JOVA = Tiny(
    cls=JoVATransformer3DModel,
    config=SHARED | {"num_single_layers": 2, "text_embed_dim_2": 10, "pos_embed_size": (8, 8, 8)},
    texts={TEXT: "encoder_attention_mask", TEXT_2: "encoder_attention_mask_2"},
    text_tokens=10,
    linears=("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"),
    islands=("time_embedder", "pos_embed"),
    shapes={TEXT_2: (2, 4, 10)},
)
JOVA_WAN = Tiny(
    cls=JoVAWanTransformer3DModel,
    config=SHARED | {"num_layers": 4, "ffn_dim": 48, "freq_dim": 16, "text_len": 10},
    texts={TEXT: "encoder_attention_mask"},
    text_tokens=0,
    linears=("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2"),
    islands=("time_embedder", "scale_shift_table", "norm2"),
)
TINY = {tiny.cls.__name__: tiny for tiny in (JOVA, JOVA_WAN)}
# like Wan2.2-TI2V-5B: what is given of the video stands among what is made
JOVA_WAN_5B = replace(
    JOVA_WAN,
    config=JOVA_WAN.config | {"in_channels": 4, "condition_fill": "noisy"},
    shapes={"hidden_states": (2, 4, 3, 4, 4)},
)


@dataclass(frozen=True)
class Beginning:
    """A beginning of one modality that is given, with a timestep of its own, to a tiny model.

    Attributes:
        argument: "timestep" or "audio_timestep".
        number: Of latents along time, of the inputs.
        output: Which output of the model it is a beginning of.
    """

    tiny: Tiny
    argument: str
    number: int
    output: int

    def timesteps(self, *elevenths: int) -> dict[str, torch.Tensor]:
        """Return timesteps: 0 for so much of the beginning of each sample, those of `inputs` for the rest."""
        return self.arguments(self.is_given(*elevenths))

    def arguments(self, is_given: torch.Tensor) -> dict[str, torch.Tensor]:
        rest = torch.tensor([700.0, 300.0])
        return {"audio_timestep": rest, self.argument: torch.where(is_given, 0.0, rest[:, None])}

    def is_given(self, *elevenths: int) -> torch.Tensor:
        lengths = torch.tensor([round(length * self.number / 11) for length in elevenths])
        return torch.arange(self.number) < lengths[:, None]


BEGINNINGS = {
    "JoVA's audio": Beginning(JOVA, "audio_timestep", 11, 1),
    "Wan's audio": Beginning(JOVA_WAN, "audio_timestep", 11, 1),
    "Wan 5B's video": Beginning(JOVA_WAN_5B, "timestep", 3, 0),
}


def blocks_of(model) -> list:
    return [*model.transformer_blocks, *getattr(model, "single_transformer_blocks", ())]


def joint_processors(model) -> list[JoVAAttnProcessor]:
    """Return the processors of the attention over both branches."""
    return [p for p in model.attn_processors.values() if isinstance(p, JoVAAttnProcessor)]


def set_joint_processor(model, processor: JoVAAttnProcessor) -> None:
    """Give the attention over both branches another processor, in all blocks."""
    for block in blocks_of(model):
        block.attn.set_processor(processor)


def difference(outputs, others) -> tuple[float, float]:
    """Return the largest difference of the video outputs and of the audio outputs."""
    return tuple((a.float() - b.float()).abs().max().item() for a, b in zip(outputs, others, strict=True))
