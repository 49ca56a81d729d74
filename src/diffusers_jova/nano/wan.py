# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""A small Wan from nothing: what a lab downloads, for the road from Wan to JoVA at nano scale.

What learns is diffusers' own `WanTransformer3DModel`, on the video of the clips alone; what is written is the folder
of a `WanPipeline`, such as `convert-wan` and `JoVAPipeline.from_wan` read.
"""
# B batch, C latent channels, F latent frames, H W latent rows and columns, T text tokens

import inspect
import shutil
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
from transformers import T5EncoderModel, T5Tokenizer

from ..files import whole_folder
from ..models.embeddings import zero_padding
from ..presets import AUDIO_MODES, WAN_PRESETS
from ..training.accelerator import create_accelerator
from ..training.checkpoint import find_checkpoint
from ..training.config import TrainingConfig
from ..training.dataset import open_clips
from ..training.loop import training_loop
from ..training.optimization import averaged
from ..training.output_dir import own_output_dir, prepare_output_dir


NANO = WAN_PRESETS["jova-wan-nano"]
PARAMETERS = tuple(inspect.signature(WanTransformer3DModel.__init__).parameters)[1:]
SIZES = {name: NANO[name] for name in ("num_attention_heads", "attention_head_dim", "num_layers", "ffn_dim")}
PARTS = {
    "tokenizer": T5Tokenizer,
    "text_encoder": T5EncoderModel,
    "vae": AutoencoderKLWan,
    "scheduler": FlowMatchEulerDiscreteScheduler,
}
NOT_HERE = ("dry_run", "validation_prompts", "video_transformer")  # settings of `train` that ask for a JoVA


class TrainedWan(WanTransformer3DModel):
    """A `WanTransformer3DModel` that the training loop can call: its weights, their names and its forward are Wan's.

    Its config also says what the loop and the converter ask for: `text_len`, the text tokens that it reads, with zeros
    behind the prompt's own, as Wan was trained with 512; `vae_temporal_compression`, video frames per latent frame of
    the VAE; and `audio_latent_rate`.
    """

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        encoder_attention_mask: torch.Tensor,
        timestep: torch.Tensor,
        **of_audio,
    ) -> tuple[torch.Tensor, None]:
        """Return the velocities (B, C, F, H, W) of a video, and None for the audio that there is not.

        Args:
            hidden_states: (B, C, F, H, W) noisy latents.
            encoder_hidden_states: (B, T, text_dim) states of the text encoder, T at most `text_len`.
            encoder_attention_mask: (B, T) bool, where there is text.
            timestep: (B,), 0 to 1000.
            of_audio: What else a JoVA is told; a Wan has no use for it.

        Raises:
            ValueError: If a text is longer than `text_len`.
        """
        missing = self.config.text_len - encoder_hidden_states.shape[1]
        if missing < 0:
            raise ValueError(
                f"A text of the cache has {encoder_hidden_states.shape[1]} tokens, this Wan reads at most "
                f"{self.config.text_len}: preprocess with --max_sequence_length {self.config.text_len}."
            )
        text = F.pad(zero_padding(encoder_hidden_states, encoder_attention_mask), (0, 0, 0, missing))
        (sample,) = super().forward(hidden_states, timestep, text, return_dict=False)
        return sample, None


def train_wan(config: TrainingConfig, text_len: int = NANO["text_len"]) -> Path:
    """Train a small Wan on the video of a cache, write `output_dir`/pipeline and return that folder.

    Args:
        config: With `branch="video"`; `model` is the pipeline whose video VAE, text encoder and tokenizer made the
            cache, and become the Wan's.
        text_len: Text tokens that the Wan reads.

    Raises:
        ValueError, FileNotFoundError: If settings, folders, cache and model do not fit together.
        InUseError: If another run is at work in `output_dir`.
    """
    if config.branch != "video":
        raise ValueError(f"A Wan has no audio: train it with `branch: video`, got {config.branch!r}.")
    if given := [name for name in NOT_HERE if getattr(config, name)]:
        raise ValueError(f"The small Wan is trained from nothing, and without {' and '.join(given)}: leave that out.")
    with own_output_dir(config):
        checkpoint = find_checkpoint(config.output_dir, config.resume_from_checkpoint)
        clips = open_clips(config)
        accelerator = create_accelerator(config, clips)
        prepare_output_dir(config, accelerator)
        wan = create_wan(Path(config.model), text_len, config.seed)
        trained = training_loop(wan, clips, config, accelerator, checkpoint=checkpoint)
        with averaged(wan, trained.ema):
            return save_wan(wan, Path(config.model), Path(config.output_dir) / "pipeline")


def create_wan(parts: Path, text_len: int, seed: int) -> TrainedWan:
    """Return a Wan of jova-nano's width that has learnt nothing, for the video VAE and text encoder of a pipeline."""
    vae = AutoencoderKLWan.load_config(parts / "vae")
    text_dim = T5EncoderModel.config_class.from_pretrained(parts / "text_encoder").d_model
    channels = {"in_channels": vae["z_dim"], "out_channels": vae["z_dim"], "text_dim": text_dim}
    torch.manual_seed(seed)
    compression = vae["scale_factor_temporal"]
    wan = TrainedWan(**SIZES, **channels)
    # not in its `__init__`, whose arguments are Wan's: whoever makes another one of its config would lose the others
    wan.register_to_config(
        text_len=text_len,
        vae_temporal_compression=compression,
        audio_latent_rate=AUDIO_MODES["16k"].audio_latent_rate,
    )
    return wan.train()


def save_wan(wan: TrainedWan, parts: Path, folder: Path) -> Path:
    """Write the folder of a `WanPipeline` and return it: the weights of `wan`, the other parts of a pipeline."""
    settings = {name: value for name, value in wan.config.items() if name in PARAMETERS}
    transformer = WanTransformer3DModel(**settings)
    transformer.load_state_dict(wan.state_dict())
    # Wan's class has no such argument, and keeps what its file says beside its own: the converter reads it there
    transformer.register_to_config(text_len=wan.config.text_len)
    loaded = {name: cls.from_pretrained(parts / name) for name, cls in PARTS.items()}
    with whole_folder(folder, overwrite=True) as partial:
        WanPipeline(transformer=transformer, **loaded).save_config(partial)  # the index alone
        transformer.save_pretrained(partial / "transformer")
        for name in PARTS:  # as they are: saved anew, they would not be those that made the cache
            shutil.copytree(parts / name, partial / name)
    return folder
