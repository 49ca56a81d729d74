# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""JoVAPipeline: a prompt, and possibly a picture, in; a video with its sound out.

B batch, C channels, F latent frames, H W latent rows and columns, A audio latents, T text tokens, N samples
"""

import copy
import functools
import math
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.guiders.adaptive_projected_guidance import normalized_guidance
from diffusers.hooks import FasterCacheConfig
from diffusers.image_processor import PipelineImageInput
from diffusers.models import AutoencoderKLWan, MMAudioVAE, MMAudioVocoder
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers import FlowMatchEulerDiscreteScheduler
from diffusers.utils import logging, replace_example_docstring
from diffusers.utils.torch_utils import get_module_execution_device, randn_tensor
from diffusers.video_processor import VideoProcessor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..images import centre_crop, resize_frame, to_uint8
from ..latents import (
    denormalize_latents,
    exact_frame_rate,
    fit_audio,
    nearest_num_frames,
    normalize_latents,
    num_audio_latents,
    num_audio_samples,
    num_latent_frames,
)
from ..loaders.lora import JoVALoraLoaderMixin
from ..models.autoencoder_mmaudio import AutoencoderMMAudio
from ..models.transformer_jova import JoVATransformer3DModel
from ..models.vocoder_bigvgan import BigVGANVocoder
from ..models.vocoder_griffin_lim import GriffinLimVocoder
from ..pipeline_folder import find_model
from .conditioning import condition_channels, video_input
from .pipeline_output import JoVAPipelineOutput
from .prompts import PROMPT_EMBEDS, format_prompt


logger = logging.get_logger(__name__)

MODALITIES = ("video", "audio")
OUTPUT_TYPES = ("pil", "np", "pt", "latent")

EXAMPLE_DOC_STRING = """
    Examples:
        ```py
        >>> import torch
        >>> from diffusers_jova import JoVAPipeline, write_video

        >>> pipe = JoVAPipeline.from_pretrained("path/to/jova", dtype=torch.bfloat16).to("cuda")
        >>> output = pipe(
        ...     prompt="A woman with short hair looks into the camera.",
        ...     audio_prompt="A calm female voice.",
        ...     transcript="Our product is great.",
        ...     image="portrait.png",
        ...     generator=torch.Generator().manual_seed(0),
        ... )
        >>> write_video(
        ...     "talking.mp4", output.frames[0], output.frame_rate, output.audio[0], output.audio_sampling_rate
        ... )
        ```
"""


def one_call_at_a_time(call: Callable) -> Callable:
    """Return a pipeline's method that refuses to start while it is running: pipeline and scheduler hold its state."""

    @functools.wraps(call)
    def checked_call(self, *args, **kwargs):
        this_call = object()
        # a test and an assignment would let two threads through, this is atomic
        if self.__dict__.setdefault("_running_call", this_call) is not this_call:
            raise RuntimeError(
                "This pipeline is in the middle of a call and serves one call at a time. Wait for it, for example "
                "with a `threading.Lock` around the calls, or give each thread a pipeline of its own: "
                'docs/generate.md, "Several threads", says which components they can share.'
            )
        try:
            return call(self, *args, **kwargs)
        finally:
            del self._running_call

    return checked_call


class JoVAPipeline(DiffusionPipeline, JoVALoraLoaderMixin):
    """Makes a video and its sound together: from text, from text and a picture, or one modality alone.

    Args:
        tokenizer, text_encoder: T5 or umT5 and its tokenizer (optional where the second encoder is there).
        tokenizer_2, text_encoder_2: Qwen2 and its tokenizer (optional likewise).
        vae: `AutoencoderKLWan`.
        audio_vae: `AutoencoderMMAudio`, or diffusers' `MMAudioVAE` (optional; needed for sound).
        vocoder: `BigVGANVocoder`, `GriffinLimVocoder`, or diffusers' `MMAudioVocoder` (optional; needed for sound).
        transformer: `JoVATransformer3DModel`.
        scheduler: `FlowMatchEulerDiscreteScheduler`; it holds the shift of the sigmas.
        height, width, num_frames, frame_rate, num_inference_steps, guidance_scale, audio_guidance_scale: What a call
            uses where it is given None, so that a checkpoint brings its own best settings.
    """

    model_cpu_offload_seq = "text_encoder->text_encoder_2->transformer->vae->audio_vae->vocoder"
    _optional_components = ["tokenizer", "text_encoder", "tokenizer_2", "text_encoder_2", "audio_vae", "vocoder"]
    _callback_tensor_inputs = ["latents", "audio_latents", *PROMPT_EMBEDS]

    def __init__(
        self,
        vae: AutoencoderKLWan,
        transformer: JoVATransformer3DModel,
        scheduler: FlowMatchEulerDiscreteScheduler,
        tokenizer: PreTrainedTokenizerBase | None = None,
        text_encoder: PreTrainedModel | None = None,
        tokenizer_2: PreTrainedTokenizerBase | None = None,
        text_encoder_2: PreTrainedModel | None = None,
        audio_vae: AutoencoderMMAudio | MMAudioVAE | None = None,  # `from_pipe` hands on exactly these classes
        vocoder: BigVGANVocoder | GriffinLimVocoder | MMAudioVocoder | None = None,
        height: int = 480,
        width: int = 832,
        num_frames: int = 121,
        frame_rate: float = 24.0,
        num_inference_steps: int = 50,
        guidance_scale: float = 10.0,
        audio_guidance_scale: float | None = None,
    ):
        super().__init__()
        self.register_modules(
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            tokenizer_2=tokenizer_2,
            text_encoder_2=text_encoder_2,
            vae=vae,
            audio_vae=audio_vae,
            vocoder=vocoder,
            transformer=transformer,
            scheduler=scheduler,
        )
        self.register_to_config(
            height=height,
            width=width,
            num_frames=num_frames,
            frame_rate=frame_rate,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            audio_guidance_scale=audio_guidance_scale,
        )
        self.vae_scale_factor_temporal = vae.config.scale_factor_temporal if vae is not None else 4
        self.vae_scale_factor_spatial = vae.config.scale_factor_spatial if vae is not None else 8
        self.video_processor = VideoProcessor(vae_scale_factor=self.vae_scale_factor_spatial, resample="bicubic")

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs) -> "JoVAPipeline":
        """Return the pipeline in a folder, of a name on the Hub, or of a checkpoint that comes with the package.

        Args:
            kwargs: See `DiffusionPipeline.from_pretrained`.
        """
        return super().from_pretrained(find_model(pretrained_model_name_or_path), **kwargs)

    # 1. Inputs

    def check_inputs(
        self,
        texts: dict[str, str | list[str] | None],
        embeds: dict[str, torch.Tensor | None],
        image,
        height,
        width,
        num_frames,
        frame_rate,
        num_inference_steps,
        sigmas,
        scales: dict[str, float | None],
        num_videos_per_prompt,
        modalities,
        output_type,
        callback_on_step_end_tensor_inputs,
    ) -> None:
        """Say what is wrong with the arguments of a call, before any work is done.

        Args:
            texts: The five text arguments by name.
            embeds: The eight arguments named in `PROMPT_EMBEDS`.
            scales: The guidance scales and the norm threshold by name.
            Others: as in the call.

        Raises:
            ValueError: With what came, what is allowed and what to do.
        """
        self._check_modalities(modalities, image, output_type)
        self._check_texts(texts, embeds)
        if "video" in modalities:
            multiple = self.vae_scale_factor_spatial * math.lcm(*self.transformer.config.patch_size[1:])
            if height % multiple or width % multiple or height <= 0 or width <= 0:
                nearest = [max(round(size / multiple), 1) * multiple for size in (height, width)]
                raise ValueError(
                    f"`height` and `width` have to be divisible by {multiple} but are {height} and {width}. "
                    f"Nearest: {nearest[0]} and {nearest[1]}."
                )
            below, above = nearest_num_frames(num_frames, self.vae_scale_factor_temporal)
            if num_frames != below:
                raise ValueError(
                    f"`num_frames` must be {self.vae_scale_factor_temporal}k + 1 for the video VAE, got {num_frames}. "
                    f"Nearest: {below} or {above}."
                )
        counts = {
            "num_frames": num_frames,
            "num_inference_steps": num_inference_steps,
            "num_videos_per_prompt": num_videos_per_prompt,
        }
        for name, count in counts.items():
            if count < 1:
                raise ValueError(f"`{name}` must be at least 1, got {count}.")
        if sigmas is not None and len(sigmas) != num_inference_steps:
            raise ValueError(
                f"`sigmas` holds {len(sigmas)} steps, but `num_inference_steps` is {num_inference_steps}."
            )
        exact_frame_rate(frame_rate)
        for name, scale in scales.items():
            if scale is not None and not (scale >= 0 and math.isfinite(scale)):
                off = "None" if name == "apg_norm_threshold" else "1.0"
                raise ValueError(f"`{name}` must not be negative, got {scale}. {off} turns this guidance off.")
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"`output_type` must be one of {OUTPUT_TYPES}, got {output_type!r}.")
        unknown = [k for k in callback_on_step_end_tensor_inputs or () if k not in self._callback_tensor_inputs]
        if unknown:
            raise ValueError(
                f"`callback_on_step_end_tensor_inputs` has to be in {self._callback_tensor_inputs}, "
                f"but found {unknown}"
            )

    def _check_modalities(self, modalities, image, output_type) -> None:
        if not modalities or len(set(modalities)) < len(modalities) or not set(modalities) <= set(MODALITIES):
            raise ValueError(f"`modalities` must be one or both of {MODALITIES}, got {modalities}.")
        needed = {"transformer": self.transformer, "scheduler": self.scheduler}
        if "video" in modalities:
            needed["vae"] = self.vae
        if "audio" in modalities and output_type != "latent":
            needed |= {"audio_vae": self.audio_vae, "vocoder": self.vocoder}
        missing = [name for name, component in needed.items() if component is None]
        if missing:
            raise ValueError(
                f"`modalities={modalities}` needs {' and '.join(f'`{name}`' for name in missing)}, which this "
                "pipeline was loaded without. Load the pipeline with it, or choose the other modality alone."
            )
        config = self.transformer.config
        for modality, channels in (("video", "in_channels"), ("audio", "audio_in_channels")):
            if modality in modalities and config[channels] is None:
                raise ValueError(
                    f"`modalities={modalities}`, but this transformer was built without its {modality} branch "
                    f"(`{channels}=None`): choose the other modality alone."
                )
        if image is not None and "video" not in modalities:
            raise ValueError("`image` is a reference picture for the video, but `modalities` holds no 'video'.")
        if image is not None and config.in_channels == config.out_channels:
            raise ValueError("`image` was given, but this transformer has no channels for a reference picture.")

    def _check_texts(self, texts: dict[str, str | list[str] | None], embeds: dict[str, torch.Tensor | None]) -> None:
        for name, text in texts.items():
            is_list = isinstance(text, list | tuple) and all(isinstance(line, str) for line in text)
            if not (text is None or isinstance(text, str) or is_list):
                raise ValueError(f"`{name}` has to be of type `str` or `list` of `str` but is {text!r}.")
        for prefix, names in (
            ("", ("prompt", "audio_prompt", "transcript")),
            ("negative_", ("negative_prompt", "negative_audio_prompt")),
        ):
            given_texts = [name for name in names if texts[name] is not None]
            given_embeds = [name for name in _names_of_embeds(prefix) if embeds[name] is not None]
            if given_texts and given_embeds:
                raise ValueError(
                    f"Cannot forward both `{given_texts[0]}`: {texts[given_texts[0]]!r} and `{given_embeds[0]}`. "
                    "Provide only one of them."
                )
            if not prefix and not given_texts and not given_embeds:
                raise ValueError("Provide either `prompt` or `prompt_embeds`. Cannot leave both undefined.")
        lengths = _num_samples(texts, embeds)
        if len(set(lengths.values())) > 1 or 0 in lengths.values():
            raise ValueError(f"Lists of texts must have the same length, one entry per sample, got {lengths}.")

    # 2. Text

    def encode_prompt(
        self,
        prompt: str | list[str] | None = None,
        audio_prompt: str | list[str] | None = None,
        transcript: str | list[str] | None = None,
        negative_prompt: str | list[str] | None = None,
        negative_audio_prompt: str | list[str] | None = None,
        do_classifier_free_guidance: bool = True,
        num_videos_per_prompt: int = 1,
        prompt_embeds: torch.Tensor | None = None,
        prompt_attention_mask: torch.Tensor | None = None,
        prompt_embeds_2: torch.Tensor | None = None,
        prompt_attention_mask_2: torch.Tensor | None = None,
        negative_prompt_embeds: torch.Tensor | None = None,
        negative_prompt_attention_mask: torch.Tensor | None = None,
        negative_prompt_embeds_2: torch.Tensor | None = None,
        negative_prompt_attention_mask_2: torch.Tensor | None = None,
        max_sequence_length: int = 512,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> tuple[torch.Tensor | None, ...]:
        """Return the states of both text encoders, for the prompt and for its negative.

        Works on a pipeline loaded without transformer and VAEs. Embeddings that are given are not computed again.

        Args:
            prompt, audio_prompt, transcript: The three lines, each one string or one per sample; or a `prompt` that
                is labelled already.
            negative_prompt, negative_audio_prompt: The lines to steer away from; None means three empty lines.
            do_classifier_free_guidance: Whether the negative is needed.
            num_videos_per_prompt: How often each prompt is repeated, in place: [p0, p0, p1, p1].
            max_sequence_length: The most tokens per encoder.
            device, dtype: Where the states go, and as what; by default as the encoders give them.

        Returns:
            `prompt_embeds` (B, T1, text_embed_dim), `prompt_attention_mask` (B, T1), `prompt_embeds_2` (B, T2,
            text_embed_dim_2), `prompt_attention_mask_2` (B, T2), and the same four of the negative. None stands for
            what is not there: an encoder, the negative, a mask that was not given with its embeddings.

        Raises:
            ValueError: If texts or embeddings differ in number, or there is no encoder for a text.
        """
        device = device or self._execution_device
        positive = (prompt_embeds, prompt_attention_mask, prompt_embeds_2, prompt_attention_mask_2)
        negative = (
            negative_prompt_embeds,
            negative_prompt_attention_mask,
            negative_prompt_embeds_2,
            negative_prompt_attention_mask_2,
        )
        self._check_embeds(dict(zip(PROMPT_EMBEDS, positive + negative)), do_classifier_free_guidance)
        texts = _format_prompts(prompt, audio_prompt, transcript)
        negative_texts = _format_prompts(negative_prompt, negative_audio_prompt)
        if prompt_embeds is None and prompt_embeds_2 is None:
            positive = self._encode_texts(texts, max_sequence_length, "prompt")
        if not do_classifier_free_guidance:
            negative = (None,) * 4
        elif negative_prompt_embeds is None and negative_prompt_embeds_2 is None:
            negative = self._encode_texts(negative_texts, max_sequence_length, "negative_prompt")

        # the names are those of the call's arguments, in the order of `PROMPT_EMBEDS`
        batch_size = len(next(tensor for tensor in positive if tensor is not None))
        (
            prompt_embeds,
            prompt_attention_mask,
            prompt_embeds_2,
            prompt_attention_mask_2,
            negative_prompt_embeds,
            negative_prompt_attention_mask,
            negative_prompt_embeds_2,
            negative_prompt_attention_mask_2,
        ) = (
            _place(name, tensor, batch_size, num_videos_per_prompt, device, dtype)
            for name, tensor in zip(PROMPT_EMBEDS, positive + negative)
        )
        return (
            prompt_embeds,
            prompt_attention_mask,
            prompt_embeds_2,
            prompt_attention_mask_2,
            negative_prompt_embeds,
            negative_prompt_attention_mask,
            negative_prompt_embeds_2,
            negative_prompt_attention_mask_2,
        )

    def _check_embeds(self, embeds: dict[str, torch.Tensor | None], do_classifier_free_guidance: bool) -> None:
        for name, states in embeds.items():
            mask = embeds.get(name.replace("embeds", "attention_mask"))
            if "mask" not in name and mask is not None and (states is None or mask.shape != states.shape[:2]):
                shape = "none" if states is None else tuple(states.shape)
                raise ValueError(
                    f"The attention mask of `{name}` must have its shape without the last axis, "
                    f"got {tuple(mask.shape)} for {shape}."
                )
        loaded = [self.text_encoder is not None, self.text_encoder_2 is not None]
        encoders = []
        for prefix in ("", "negative_"):
            given = [embeds[name] is not None for name in _names_of_embeds(prefix)]
            encoders.append(given if any(given) else loaded)
        if do_classifier_free_guidance and any(encoders[1]) and encoders[0] != encoders[1]:
            raise ValueError(
                "A prompt and its negative must come from the same text encoders, but of the embeddings only "
                f"{[name for name, tensor in embeds.items() if tensor is not None]} were given. "
                "Pass all that `encode_prompt` returned."
            )

    def _encode_texts(self, texts: list[str], max_sequence_length: int, what: str) -> tuple[torch.Tensor | None, ...]:
        """Return (states, mask) of the first encoder, then of the second; (None, None) for one that is not there."""
        if self.text_encoder is None and self.text_encoder_2 is None:
            raise ValueError(
                f"`{what}` needs a text encoder, and this pipeline was loaded without. Load it with one, or pass "
                f"`{what}_embeds` (encode once with `encode_prompt`, keep with `save_prompt_embeds`)."
            )
        outputs = ()
        for suffix in ("", "_2"):
            tokenizer, text_encoder = getattr(self, f"tokenizer{suffix}"), getattr(self, f"text_encoder{suffix}")
            if text_encoder is None:
                outputs += (None, None)
                continue
            if tokenizer is None:
                raise ValueError(
                    f"`text_encoder{suffix}` needs `tokenizer{suffix}`, which this pipeline was loaded without."
                )
            inputs = tokenizer(
                texts,
                padding="longest",
                padding_side="right",
                max_length=max_sequence_length,
                truncation=True,
                return_attention_mask=True,
                return_tensors="pt",
            )
            num_tokens = max(len(ids) for ids in tokenizer(texts).input_ids)
            if num_tokens > max_sequence_length:
                logger.warning(
                    f"A prompt has {num_tokens} tokens and is cut to `max_sequence_length={max_sequence_length}`: the "
                    "end of the transcript, its last line, will not be spoken."
                )
            device = get_module_execution_device(text_encoder)
            states = text_encoder(
                input_ids=inputs.input_ids.to(device), attention_mask=inputs.attention_mask.to(device)
            )
            outputs += (states.last_hidden_state, inputs.attention_mask)
        return outputs

    # 3. Latents

    def prepare_latents(
        self,
        shape: tuple[int, ...],
        generator: torch.Generator | list[torch.Generator] | None,
        device: torch.device,
        latents: torch.Tensor | None = None,
        name: str = "latents",
    ) -> torch.Tensor:
        """Return float32 noise of `shape`, or the given `latents` if they have it.

        Raises:
            ValueError: If `latents` has another shape, or the generators are not one or one per sample.
        """
        if isinstance(generator, list) and len(generator) != shape[0]:
            raise ValueError(
                f"You have passed a list of generators of length {len(generator)}, but requested an effective batch "
                f"size of {shape[0]}. Make sure the batch size matches the length of the generators."
            )
        if latents is None:
            return randn_tensor(shape, generator=generator, device=device, dtype=torch.float32)
        if tuple(latents.shape) != tuple(shape):
            raise ValueError(f"`{name}` must have shape {tuple(shape)}, got {tuple(latents.shape)}.")
        return latents.to(device=device, dtype=torch.float32)

    def prepare_image(
        self, image: PipelineImageInput | str | Path | None, num_prompts: int, height: int, width: int
    ) -> torch.Tensor | None:
        """Return reference pictures as pixels (B, 3, height, width) in [-1, 1].

        They are cropped around their centre and resized as training does with its frames, in 8 bits.

        Args:
            image: What `images.to_uint8` takes.

        Raises:
            ValueError: If a picture cannot be read or holds NaN, or there are neither one nor one per prompt.
        """
        if image is None:
            return None
        pictures = to_uint8(image)
        if len(pictures) not in (1, num_prompts):
            raise ValueError(f"Got {len(pictures)} pictures for {num_prompts} prompts: pass one, or one per prompt.")
        resized = [resize_frame(x, centre_crop(*x.shape[:2], height, width), height, width) for x in pictures]
        return torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).float() / 127.5 - 1

    def _encode_pixels(self, pixels: torch.Tensor, device: torch.device) -> torch.Tensor:
        """(B, 3, height, width) in [-1, 1] -> (B, C, 1, H, W)"""
        pixels = pixels[:, :, None].to(device=get_module_execution_device(self.vae), dtype=self.vae.dtype)
        latents = self.vae.encode(pixels).latent_dist.mode()
        return normalize_latents(latents.to(device=device, dtype=torch.float32), self.vae.config)

    def prepare_condition(
        self, pixels: torch.Tensor | None, latents: torch.Tensor, height: int, width: int
    ) -> torch.Tensor | None:
        """Return the channels beside the noisy latents, (B, C + 4, F, H, W), or None where the transformer takes none.

        The image is given as latent frame 0; the other frames hold the latent of a black frame. See
        `conditioning.condition_channels`.

        Args:
            pixels: `(num_prompts, 3, height, width)` of `prepare_image`, or None where nothing is given.
            latents: `(B, C, F, H, W)`, the noise; B is a multiple of `num_prompts`, or of 1.
            height, width: In pixels.
        """
        if self.transformer.config.in_channels == self.transformer.config.out_channels:
            return None
        batch_size, _, num_latent_frames, *_ = latents.shape
        black_latents = self._encode_pixels(torch.full((1, 3, height, width), -1.0), latents.device)
        clean_latents = black_latents if pixels is None else self._encode_pixels(pixels, latents.device)
        clean_latents = clean_latents.repeat_interleave(batch_size // len(clean_latents), dim=0)  # (B, C, 1, H, W)
        is_given = torch.full((batch_size, 1), pixels is not None, device=latents.device)
        return condition_channels(
            clean_latents, is_given, black_latents, num_latent_frames, self.vae_scale_factor_temporal
        )

    # 4. Denoising

    @property
    def guidance_scale(self) -> float:
        return self._guidance_scale

    @property
    def audio_guidance_scale(self) -> float:
        return self._guidance_scale if self._audio_guidance_scale is None else self._audio_guidance_scale

    @property
    def modality_scale(self) -> float:
        return self._modality_scale

    @property
    def audio_modality_scale(self) -> float:
        return self._audio_modality_scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether a scale of a modality that is made asks for the unconditional pass."""
        scales = {"video": self.guidance_scale, "audio": self.audio_guidance_scale}
        return any(scales[modality] != 1.0 for modality in self._modalities)

    @property
    def do_modality_guidance(self) -> bool:
        """Whether a scale asks for the pass without cross-modal attention, which takes two modalities."""
        return len(self._modalities) == 2 and (self.modality_scale != 1.0 or self.audio_modality_scale != 1.0)

    @property
    def num_passes(self) -> int:
        """Calls of the transformer per step."""
        return 1 + self.do_classifier_free_guidance + self.do_modality_guidance

    @property
    def attention_kwargs(self) -> dict[str, Any] | None:
        return self._attention_kwargs

    @property
    def num_timesteps(self) -> int:
        return self._num_timesteps

    @property
    def current_timestep(self) -> torch.Tensor | None:
        return self._current_timestep

    @property
    def interrupt(self) -> bool:
        return self._interrupt

    @property
    def audio_sampling_rate(self) -> int | None:
        """Samples per second of the sound, from the audio VAE's config."""
        config = getattr(getattr(self, "audio_vae", None), "config", {})
        return config.get("sampling_rate", config.get("sample_rate"))

    def denoise(
        self,
        tensors: dict[str, torch.Tensor | None],
        condition: torch.Tensor | None,
        sigmas: list[float],
        frame_rate: float,
        apg_norm_threshold: float | None,
        generator: torch.Generator | list[torch.Generator] | None,
        callback_on_step_end: Callable | None,
        callback_on_step_end_tensor_inputs: list[str],
    ) -> dict[str, torch.Tensor | None]:
        """Take `latents` and `audio_latents` from noise to data, in float32.

        Args:
            tensors: By the names of `_callback_tensor_inputs`: latents (B, C, F, H, W), audio_latents (B, C, A), and
                the eight outputs of `encode_prompt`. A callback may replace any of them.
            condition: (B, C + 4, F, H, W) of `prepare_condition`, or None.
            sigmas: Noise levels, 1 to 0, before the scheduler's shift.
            Others: as in the call.

        Returns:
            `tensors` after the last step.
        """
        self.scheduler.set_timesteps(sigmas=sigmas, device=self._execution_device)
        # each modality has its own counter of steps
        schedulers = {"latents": self.scheduler, "audio_latents": copy.deepcopy(self.scheduler)}
        timesteps = self.scheduler.timesteps
        self._num_timesteps = len(timesteps)

        with self.progress_bar(total=len(timesteps)) as progress_bar:
            for i, t in enumerate(timesteps):
                if self.interrupt:
                    continue
                self._current_timestep = t
                sigma = self.scheduler.sigmas[i]
                velocities = self._predict(tensors, condition, i, t, sigma, frame_rate, apg_norm_threshold)
                for name, velocity in velocities.items():
                    tensors[name] = schedulers[name].step(
                        velocity, t, tensors[name], generator=generator, return_dict=False
                    )[0]

                if callback_on_step_end is not None:
                    callback_kwargs = {name: tensors[name] for name in callback_on_step_end_tensor_inputs}
                    tensors.update(callback_on_step_end(self, i, t, callback_kwargs) or {})
                progress_bar.update()

        self._current_timestep = None
        return tensors

    def _predict(self, tensors, condition, i, t, sigma, frame_rate, apg_norm_threshold) -> dict[str, torch.Tensor]:
        """Return the guided velocity of each modality at step `i`, by the name of its latents.

        v = v_cond + (g - 1)(v_cond - v_uncond) + (m - 1)(v_cond - v_cond without cross-modal attention)
        """

        def run(name: str, prefix: str = "", cross_modal_attention: bool = True) -> tuple:
            latents, audio_latents, dtype = tensors["latents"], tensors["audio_latents"], self.transformer.dtype
            if latents is not None:
                latents = video_input(latents, condition).to(dtype)
            batch = latents if latents is not None else audio_latents
            texts = self._text_inputs(tensors, prefix, dtype)
            with self.transformer.cache_context(name, step_index=i, num_inference_steps=self.num_timesteps):
                outputs = self.transformer(
                    hidden_states=latents,
                    audio_hidden_states=audio_latents.to(dtype) if audio_latents is not None else None,
                    timestep=t.expand(len(batch)),
                    frame_rate=frame_rate,
                    cross_modal_attention=cross_modal_attention,
                    attention_kwargs=self.attention_kwargs,
                    return_dict=False,
                    **texts,
                )
            return tuple(output.float() if output is not None else None for output in outputs)

        cond = run("cond")
        uncond = run("uncond", prefix="negative_") if self.do_classifier_free_guidance else (None, None)
        isolated = run("isolated", cross_modal_attention=False) if self.do_modality_guidance else (None, None)
        velocities = {}
        for name, v_cond, v_uncond, v_isolated, scale, modality_scale in zip(
            ("latents", "audio_latents"),
            cond,
            uncond,
            isolated,
            (self.guidance_scale, self.audio_guidance_scale),
            (self.modality_scale, self.audio_modality_scale),
        ):
            if v_cond is None:
                continue
            velocity = v_cond
            if v_uncond is not None and scale != 1.0:
                if name == "latents" and apg_norm_threshold is not None:
                    velocity = _projected_guidance(v_cond, v_uncond, tensors[name], sigma, scale, apg_norm_threshold)
                else:
                    velocity = velocity + (scale - 1) * (v_cond - v_uncond)
            if v_isolated is not None and modality_scale != 1.0:
                velocity = velocity + (modality_scale - 1) * (v_cond - v_isolated)
            velocities[name] = velocity
        return velocities

    def _text_inputs(self, tensors, prefix: str, dtype: torch.dtype) -> dict[str, torch.Tensor | None]:
        """Return the transformer's text arguments, from the prompt ("") or from the negative ("negative_")."""
        inputs = {}
        degree = self.transformer.context_parallel_degree
        for suffix in ("", "_2"):
            states, mask = tensors[f"{prefix}prompt_embeds{suffix}"], tensors[f"{prefix}prompt_attention_mask{suffix}"]
            if states is not None and states.shape[1] % degree:
                # the ranks share the text evenly: fill it up with tokens that nobody sees
                missing = -states.shape[1] % degree
                if mask is None:
                    mask = torch.ones(states.shape[:2], dtype=torch.bool, device=states.device)
                states, mask = F.pad(states, (0, 0, 0, missing)), F.pad(mask, (0, missing))
            inputs[f"encoder_hidden_states{suffix}"] = states.to(dtype) if states is not None else None
            inputs[f"encoder_attention_mask{suffix}"] = mask
        return inputs

    # 5. Decoding

    def decode_latents(self, latents: torch.Tensor, output_type: str = "pil"):
        """Return the frames of video latents (B, C, F, H, W), on the transformer's scale, as `output_type`."""
        latents = denormalize_latents(latents, self.vae.config).to(self.vae.dtype)
        video = self.vae.decode(latents, return_dict=False)[0]
        return self.video_processor.postprocess_video(video, output_type=output_type)

    def decode_audio_latents(
        self, audio_latents: torch.Tensor, num_samples: int, output_type: str = "pil"
    ) -> torch.Tensor | np.ndarray:
        """Return the waveforms (B, num_samples) of audio latents (B, C, A), on the transformer's scale."""
        audio_latents = denormalize_latents(audio_latents, self.audio_vae.config).to(self.audio_vae.dtype)
        log_mel = self.audio_vae.decode(audio_latents, return_dict=False)[0]
        waveform = self.vocoder(log_mel.to(self.vocoder.dtype))
        waveform = waveform if torch.is_tensor(waveform) else waveform[0]  # diffusers' own vocoder wraps its output
        audio = fit_audio(waveform[:, 0].float(), num_samples)
        return audio if output_type == "pt" else audio.cpu().numpy()

    @one_call_at_a_time
    @torch.no_grad()
    @replace_example_docstring(EXAMPLE_DOC_STRING)
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        audio_prompt: str | list[str] | None = None,
        transcript: str | list[str] | None = None,
        image: PipelineImageInput | str | Path | None = None,
        negative_prompt: str | list[str] | None = None,
        negative_audio_prompt: str | list[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        frame_rate: float | Fraction | None = None,
        num_inference_steps: int | None = None,
        sigmas: list[float] | None = None,
        guidance_scale: float | None = None,
        audio_guidance_scale: float | None = None,
        modality_scale: float = 1.0,
        audio_modality_scale: float = 1.0,
        apg_norm_threshold: float | None = None,
        num_videos_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        audio_latents: torch.Tensor | None = None,
        prompt_embeds: torch.Tensor | None = None,
        prompt_attention_mask: torch.Tensor | None = None,
        prompt_embeds_2: torch.Tensor | None = None,
        prompt_attention_mask_2: torch.Tensor | None = None,
        negative_prompt_embeds: torch.Tensor | None = None,
        negative_prompt_attention_mask: torch.Tensor | None = None,
        negative_prompt_embeds_2: torch.Tensor | None = None,
        negative_prompt_attention_mask_2: torch.Tensor | None = None,
        modalities: tuple[str, ...] = MODALITIES,
        output_type: str = "pil",
        return_dict: bool = True,
        attention_kwargs: dict[str, Any] | None = None,
        callback_on_step_end: Callable[[Any, int, torch.Tensor, dict], dict]
        | PipelineCallback
        | MultiPipelineCallbacks
        | None = None,
        callback_on_step_end_tensor_inputs: list[str] = ["latents"],  # noqa: B006 diffusers' own default
        max_sequence_length: int = 512,
    ) -> JoVAPipelineOutput | tuple:
        """Make a video with its sound.

        Arguments that are None take the checkpoint's own value, from the pipeline's config.

        Args:
            prompt (`str` or `list[str]`, *optional*):
                What is seen. Or all three lines at once, each after its label: `<Video Caption>:`,
                `<Audio Caption>:`, `<Transcript>:`.
            audio_prompt (`str` or `list[str]`, *optional*):
                What is heard, but for the words.
            transcript (`str` or `list[str]`, *optional*):
                The words that are spoken.
            image (`PipelineImageInput` or `str`, *optional*):
                Reference picture, the first frame: one, or one per prompt. A path, a PIL image, an array (H, W, 3) or
                a tensor (3, H, W), in uint8 or [0, 1]; of any size, cropped around its centre.
            negative_prompt, negative_audio_prompt (`str` or `list[str]`, *optional*):
                What to steer away from. None: the unconditional prompt, three empty lines.
            height, width (`int`, *optional*):
                Size in pixels, divisible by 16.
            num_frames (`int`, *optional*):
                Number of frames, 4k + 1. The sound lasts as long as they do.
            frame_rate (`float` or `Fraction`, *optional*):
                Frames per second; 23.976 and 29.97 mean 24000/1001 and 30000/1001, as in `write_video`.
            num_inference_steps (`int`, *optional*):
                Denoising steps.
            sigmas (`list[float]`, *optional*):
                Noise levels instead of even steps from 1, before the scheduler's shift.
            guidance_scale (`float`, *optional*):
                Classifier-free guidance of the video; 1.0 is off. The paper uses 10.
            audio_guidance_scale (`float`, *optional*):
                The same for the sound. None: the value of `guidance_scale` if that is given, else the checkpoint's.
            modality_scale, audio_modality_scale (`float`, defaults to 1.0):
                Cross-modal guidance: how much further each modality goes in the direction in which the other one
                pulls it. 1.0 is off.
            apg_norm_threshold (`float`, *optional*):
                Uses adaptive projected guidance (arXiv:2410.02416) for the video, with this largest norm of a latent
                frame's update. Waver: 27, with `guidance_scale=8`.
            num_videos_per_prompt (`int`, defaults to 1):
                Samples per prompt.
            generator (`torch.Generator` or `list[torch.Generator]`, *optional*):
                Source of the noise: one, or one per sample, which makes a batch equal its samples made alone.
            latents (`torch.Tensor`, *optional*):
                Noise (B, C, F, H, W) to start the video from.
            audio_latents (`torch.Tensor`, *optional*):
                Noise (B, C, A) to start the sound from, A = ceil(seconds · audio_latent_rate).
            prompt_embeds, prompt_embeds_2 (`torch.Tensor`, *optional*):
                Outputs of [`~JoVAPipeline.encode_prompt`] instead of texts, with their masks; likewise the negative
                ones. `save_prompt_embeds` and `load_prompt_embeds` keep them in a file.
            modalities (`tuple[str, ...]`, defaults to `("video", "audio")`):
                What to make. With one, the other branch is not run.
            output_type (`str`, defaults to `"pil"`):
                "pil", "np", "pt" or "latent"; see [`JoVAPipelineOutput`].
            return_dict (`bool`, defaults to `True`):
                False returns the tuple (frames, audio).
            attention_kwargs (`dict`, *optional*):
                `{"scale": s}` sets the strength of LoRA layers.
            callback_on_step_end (`Callable`, *optional*):
                Called as `callback(pipe, step, timestep, tensors)` after each step; what it returns replaces tensors.
            callback_on_step_end_tensor_inputs (`list[str]`, defaults to `["latents"]`):
                Which tensors the callback gets, of `pipe._callback_tensor_inputs`.
            max_sequence_length (`int`, defaults to 512):
                The most tokens per text encoder.

        Examples:

        Returns:
            [`JoVAPipelineOutput`] or `tuple`: frames and audio; None for a modality that was not asked for.

        Raises:
            ValueError: If an argument does not fit, before any work is done.
            RuntimeError: If a call of this pipeline is running, in another thread or around this one.
        """
        if isinstance(callback_on_step_end, PipelineCallback | MultiPipelineCallbacks):
            callback_on_step_end_tensor_inputs = callback_on_step_end.tensor_inputs

        # 1. Inputs
        config = self.config
        if audio_guidance_scale is None and guidance_scale is None:
            audio_guidance_scale = config.audio_guidance_scale
        guidance_scale = config.guidance_scale if guidance_scale is None else guidance_scale
        height = config.height if height is None else height
        width = config.width if width is None else width
        num_frames = config.num_frames if num_frames is None else num_frames
        frame_rate = config.frame_rate if frame_rate is None else frame_rate
        if num_inference_steps is None:
            num_inference_steps = config.num_inference_steps if sigmas is None else len(sigmas)
        modalities = (modalities,) if isinstance(modalities, str) else tuple(modalities)
        texts = {
            "prompt": prompt,
            "audio_prompt": audio_prompt,
            "transcript": transcript,
            "negative_prompt": negative_prompt,
            "negative_audio_prompt": negative_audio_prompt,
        }
        embeds = {
            "prompt_embeds": prompt_embeds,
            "prompt_attention_mask": prompt_attention_mask,
            "prompt_embeds_2": prompt_embeds_2,
            "prompt_attention_mask_2": prompt_attention_mask_2,
            "negative_prompt_embeds": negative_prompt_embeds,
            "negative_prompt_attention_mask": negative_prompt_attention_mask,
            "negative_prompt_embeds_2": negative_prompt_embeds_2,
            "negative_prompt_attention_mask_2": negative_prompt_attention_mask_2,
        }
        self.check_inputs(
            texts=texts,
            embeds=embeds,
            image=image,
            height=height,
            width=width,
            num_frames=num_frames,
            frame_rate=frame_rate,
            num_inference_steps=num_inference_steps,
            sigmas=sigmas,
            scales={
                "guidance_scale": guidance_scale,
                "audio_guidance_scale": audio_guidance_scale,
                "modality_scale": modality_scale,
                "audio_modality_scale": audio_modality_scale,
                "apg_norm_threshold": apg_norm_threshold,
            },
            num_videos_per_prompt=num_videos_per_prompt,
            modalities=modalities,
            output_type=output_type,
            callback_on_step_end_tensor_inputs=callback_on_step_end_tensor_inputs,
        )
        self._guidance_scale = guidance_scale
        self._audio_guidance_scale = audio_guidance_scale
        self._modality_scale = modality_scale
        self._audio_modality_scale = audio_modality_scale
        self._modalities = modalities
        self._attention_kwargs = attention_kwargs
        self._current_timestep = None
        self._interrupt = False
        if isinstance(self.transformer._cache_config, FasterCacheConfig) and self.num_passes > 1:
            raise ValueError(
                f"FasterCache mixes up the {self.num_passes} passes that these scales ask for: set all scales to 1.0, "
                "or use another cache."
            )
        device = self._execution_device
        num_prompts = max(_num_samples(texts, embeds).values())
        batch_size = num_prompts * num_videos_per_prompt

        # 2. Noise and picture: cheap, and wrong arguments show here, before the text encoders run
        tensors = {"latents": None, "audio_latents": None}
        condition = None
        if "video" in modalities:
            shape = (
                batch_size,
                self.transformer.config.out_channels,
                num_latent_frames(num_frames, self.vae_scale_factor_temporal),
                height // self.vae_scale_factor_spatial,
                width // self.vae_scale_factor_spatial,
            )
            tensors["latents"] = self.prepare_latents(shape, generator, device, latents)
            pixels = self.prepare_image(image, num_prompts, height, width)
        if "audio" in modalities:
            num_latents = num_audio_latents(num_frames, frame_rate, self.transformer.config.audio_latent_rate)
            shape = (batch_size, self.transformer.config.audio_in_channels, num_latents)
            tensors["audio_latents"] = self.prepare_latents(shape, generator, device, audio_latents, "audio_latents")

        # 3. Text, and the picture's latents
        embeds = self.encode_prompt(
            **texts,
            **embeds,
            do_classifier_free_guidance=self.do_classifier_free_guidance,
            num_videos_per_prompt=num_videos_per_prompt,
            max_sequence_length=max_sequence_length,
            device=device,
        )
        tensors |= dict(zip(PROMPT_EMBEDS, embeds))
        if "video" in modalities:
            condition = self.prepare_condition(pixels, tensors["latents"], height, width)

        # 4. Denoising
        if sigmas is None:
            sigmas = np.linspace(1.0, 1 / num_inference_steps, num_inference_steps)
        tensors = self.denoise(
            tensors,
            condition,
            sigmas,
            float(exact_frame_rate(frame_rate)),
            apg_norm_threshold,
            generator,
            callback_on_step_end,
            callback_on_step_end_tensor_inputs,
        )

        # 5. Decoding
        frames, audio = tensors["latents"], tensors["audio_latents"]
        if output_type != "latent":
            if frames is not None:
                frames = self.decode_latents(frames, output_type)
            if audio is not None:
                num_samples = num_audio_samples(num_frames, frame_rate, self.audio_sampling_rate)
                audio = self.decode_audio_latents(audio, num_samples, output_type)

        self.maybe_free_model_hooks()
        if not return_dict:
            return (frames, audio)
        return JoVAPipelineOutput(
            frames=frames, audio=audio, audio_sampling_rate=self.audio_sampling_rate, frame_rate=frame_rate
        )


def _names_of_embeds(prefix: str) -> tuple[str, str]:
    """Return the names of both encoders' states, of the prompt ("") or of its negative ("negative_")."""
    return f"{prefix}prompt_embeds", f"{prefix}prompt_embeds_2"


def _num_samples(texts: dict[str, str | list[str] | None], embeds: dict[str, torch.Tensor | None]) -> dict[str, int]:
    """Return how many samples each argument is for; a single string, or a single negative, is for all."""
    lengths = {name: len(text) for name, text in texts.items() if isinstance(text, list | tuple)}
    lengths |= {name: len(tensor) for name, tensor in embeds.items() if tensor is not None}
    lengths = {name: length for name, length in lengths.items() if length != 1 or not name.startswith("negative_")}
    return lengths if any(not name.startswith("negative_") for name in lengths) else {"prompt": 1, **lengths}


def _format_prompts(prompt=None, audio_prompt=None, transcript=None) -> list[str]:
    """Return one labelled text per sample; a single string goes to every sample."""
    lines = (prompt, audio_prompt, transcript)
    batch_size = max([len(line) for line in lines if isinstance(line, list | tuple)], default=1)
    lines = [line if isinstance(line, list | tuple) else [line] * batch_size for line in lines]
    return [format_prompt(*sample) for sample in zip(*lines)]


def _place(
    name: str,
    tensor: torch.Tensor | None,
    batch_size: int,
    num_videos_per_prompt: int,
    device: torch.device,
    dtype: torch.dtype | None,
) -> torch.Tensor | None:
    """Return text states or a mask for every sample, each prompt's samples side by side; one negative serves all."""
    if tensor is None:
        return None
    if len(tensor) not in (1, batch_size):
        raise ValueError(f"`{name}` has {len(tensor)} entries, but there are {batch_size} prompts.")
    tensor = tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None)
    return tensor.repeat_interleave(num_videos_per_prompt * batch_size // len(tensor), dim=0)


def _projected_guidance(
    v_cond: torch.Tensor,
    v_uncond: torch.Tensor,
    latents: torch.Tensor,
    sigma: torch.Tensor,
    guidance_scale: float,
    norm_threshold: float,
) -> torch.Tensor:
    """Return the velocity (B, C, F, H, W) of adaptive projected guidance (arXiv:2410.02416, section 4).

    It works on predicted data x = latents - sigma · v: the part of the update along the conditional prediction is
    dropped, its norm is limited, per latent frame ([C, H, W], as Waver does).
    """
    data = normalized_guidance(
        latents - sigma * v_cond,
        latents - sigma * v_uncond,
        guidance_scale - 1,
        eta=0.0,
        norm_threshold=norm_threshold,
        use_original_formulation=True,
        norm_dim=(1, 3, 4),
    )
    return (latents - data) / sigma
