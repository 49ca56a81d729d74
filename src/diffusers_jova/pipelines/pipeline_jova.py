# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""JoVAPipeline: a prompt, and possibly an image, in; a video with its audio out (JoVA, arXiv:2512.13677).

`__call__` goes through `check_inputs`, `encode_prompt`, `prepare_latents`, `denoise`, `decode_latents`. Beside it:
`inputs` (what a call asks for, and its checks), `directions` (what it is given), `prompts`, `conditioning`,
`guidance`, `one_call`.

B batch, C channels, F latent frames, H W latent rows and columns, A audio latents, T text tokens, N audio samples
"""

import copy
import functools
import inspect
import math
import os
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.hooks import FasterCacheConfig, FirstBlockCacheConfig, MagCacheConfig
from diffusers.image_processor import PipelineImageInput
from diffusers.models import AutoencoderKLWan, MMAudioVAE, MMAudioVocoder
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from diffusers.utils import logging, replace_example_docstring
from diffusers.utils.torch_utils import get_module_execution_device, randn_tensor
from diffusers.video_processor import VideoProcessor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .. import compat
from ..images import fit_frame, normalize_frames, to_uint8
from ..latents import (
    denormalize_latents,
    exact_frame_rate,
    fit_audio,
    normalize_latents,
    num_audio_latents,
    num_audio_samples,
    num_latent_frames,
)
from ..loaders.lora import JoVALoraLoaderMixin
from ..models.autoencoder_mmaudio import AutoencoderMMAudio
from ..models.modulation import split_timestep
from ..models.transformer_jova import JoVATransformer3DModel
from ..models.transformer_jova_wan import JoVAWanTransformer3DModel
from ..models.value_checks import without_value_checks
from ..models.vocoder_bigvgan import BigVGANVocoder
from ..models.vocoder_griffin_lim import GriffinLimVocoder
from ..pipeline_folder import find_model
from ..presets import MEL_FRAMES_PER_LATENT
from ..vocabulary import KnownWords, all_words, check_known_words, unknown_words
from .conditioning import condition_channels, grey_where_not_given, video_input
from .directions import LATENTS, Given, GivenLatents, check_encoder
from .guidance import projected_guidance
from .inputs import (
    MODALITIES,
    CallSettings,
    check_embeds,
    check_image,
    check_modalities,
    check_numbers,
    check_output,
    check_texts,
    check_video_shape,
    samples_per_argument,
)
from .one_call import one_call_at_a_time
from .pipeline_output import JoVAPipelineOutput
from .prompts import (
    LABELS,
    PROMPT_EMBEDS,
    PROMPT_FORMATS,
    PROMPT_TEXTS,
    TEXTS,
    format_prompts,
    join_text_inputs,
    repeat_samples,
    text_inputs,
)
from .schedules import set_timesteps, take_step
from .wan_parts import load_wan_parts
from .windows import WINDOWS, join_windows, make_windows, plan_call, read_long_recording


logger = logging.get_logger(__name__)

WAN_CHUNK = 4  # frames that `AutoencoderKLWan` encodes at a time, behind the first one

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


class JoVAPipeline(DiffusionPipeline, JoVALoraLoaderMixin):
    """Makes a video and its audio together: from text, from text and an image, or one modality alone.

    Args:
        tokenizer, text_encoder: T5 or umT5 and its tokenizer (optional where the second encoder is there).
        tokenizer_2, text_encoder_2: Qwen2 and its tokenizer (optional likewise).
        vae: `AutoencoderKLWan`: video (B, 3, frames, height, width) to latents (B, C, F, H, W) and back.
        audio_vae: `AutoencoderMMAudio`, or diffusers' `MMAudioVAE`: latents (B, C, A) to a log-mel (optional; needed
            for audio).
        vocoder: `BigVGANVocoder`, `GriffinLimVocoder`, or diffusers' `MMAudioVocoder`: a log-mel to a waveform
            (optional; needed for audio).
        transformer: `JoVATransformer3DModel` or `JoVAWanTransformer3DModel`, which denoises both latents.
        scheduler: `FlowMatchEulerDiscreteScheduler`, or another of diffusers' that predicts flow, such as Wan's
            `UniPCMultistepScheduler`; it holds the shift of the sigmas.
        height, width, num_frames, frame_rate, num_inference_steps, guidance_scale, audio_guidance_scale,
            modality_scale, audio_modality_scale: What a call uses where it is given None (pixels, frames, frames per
            second), so that a checkpoint brings its own best settings.
        prompt_format: What the text encoders read: "labelled", the three lines of JoVA, or "plain", the prompt alone
            as Wan cleans it, for a transformer that comes from Wan and has not learnt the lines.
        known_words: The words that it has learnt to say, in lists by their kinds, {"digit": ["zero", "one"]}; None for
            a checkpoint that does not say, which is taken to know all. A call warns of others.
    """

    model_cpu_offload_seq = "text_encoder->text_encoder_2->transformer->vae->audio_vae->vocoder"
    _optional_components = ["tokenizer", "text_encoder", "tokenizer_2", "text_encoder_2", "audio_vae", "vocoder"]
    _callback_tensor_inputs = ["latents", "audio_latents", *PROMPT_EMBEDS]

    def __init__(
        self,
        vae: AutoencoderKLWan,
        transformer: JoVATransformer3DModel | JoVAWanTransformer3DModel,
        scheduler: FlowMatchEulerDiscreteScheduler | UniPCMultistepScheduler,
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
        modality_scale: float = 1.0,
        audio_modality_scale: float = 1.0,
        prompt_format: str = "labelled",
        known_words: KnownWords | None = None,
    ):
        super().__init__()
        check_known_words(known_words)
        if prompt_format not in PROMPT_FORMATS:
            raise ValueError(f"`prompt_format` must be one of {PROMPT_FORMATS}, got {prompt_format!r}.")
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
            modality_scale=modality_scale,
            audio_modality_scale=audio_modality_scale,
            prompt_format=prompt_format,
            known_words=known_words,
        )
        self.vae_scale_factor_temporal = vae.config.scale_factor_temporal if vae is not None else 4
        self.vae_scale_factor_spatial = vae.config.scale_factor_spatial if vae is not None else 8
        self.video_processor = VideoProcessor(vae_scale_factor=self.vae_scale_factor_spatial, resample="bicubic")

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs) -> "JoVAPipeline":
        """Return the pipeline in a folder, of a name on the Hub, or of a checkpoint that comes with the package.

        Args:
            pretrained_model_name_or_path: A folder; a name on the Hub; or "jova-mini" or "jova-nano", which come with
                the package.
            kwargs: See `DiffusionPipeline.from_pretrained`.
        """
        compat.load("LOADABLE_CLASSES")  # without it diffusers refuses our classes, and does not say why
        return super().from_pretrained(find_model(pretrained_model_name_or_path), **kwargs)

    @classmethod
    def from_wan(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        expert: str | None = None,
        audio_mode: str = "44k",
        seed: int = 0,
        audio_vae: AutoencoderMMAudio | MMAudioVAE | None = None,
        vocoder: BigVGANVocoder | GriffinLimVocoder | MMAudioVocoder | None = None,
        dtype: torch.dtype | None = None,
        **kwargs,
    ) -> "JoVAPipeline":
        """Return the pipeline that `convert-wan` writes, straight from a Wan's folder, without a copy on disk.

        The video branch is Wan's transformer; the audio branch starts as its copy and has to be trained.

        Args:
            pretrained_model_name_or_path: Folder of a `WanPipeline` or `WanImageToVideoPipeline`, or its name on the
                Hub.
            expert: "high" or "low", which expert of a Wan2.2-A14B to take.
            audio_mode: "16k" or "44k": the audio VAE that the audio branch is for.
            seed: Of what is new in the audio branch.
            audio_vae, vocoder: As in the pipeline; without them it makes video alone.
            dtype: Of the weights.
            kwargs: See `DiffusionPipeline.from_pretrained`.

        Raises:
            ValueError: If it is not a Wan that can be a video branch, with the reason.
        """
        parts = load_wan_parts(pretrained_model_name_or_path, expert, audio_mode, seed, dtype, **kwargs)
        return cls(**parts, audio_vae=audio_vae, vocoder=vocoder)

    # 1. Inputs

    def check_inputs(
        self,
        texts: dict[str, str | list[str] | None],
        embeds: dict[str, torch.Tensor | None],
        image: PipelineImageInput | str | Path | None,
        settings: CallSettings,
        given: Given | None = None,
    ) -> None:
        """Raise an error for what is wrong with the arguments of a call, before any work is done.

        Args:
            texts: The five arguments named in `TEXTS`.
            embeds: The eight arguments named in `PROMPT_EMBEDS`.
            image: As in the call.
            settings: All the others.
            given: What of the clip is given; None for nothing.

        Raises:
            ValueError: With what came, what is allowed and what to do.
        """
        whole = given.whole if given is not None else ()
        check_modalities(settings.modalities, settings.output_type, self.components, whole)
        check_image(image, settings.modalities, self.transformer.config)
        check_texts(texts, embeds, is_optional=given is not None)
        if "video" in settings.modalities:
            pixels_per_token = self.vae_scale_factor_spatial * math.lcm(*self.transformer.config.patch_size[1:])
            check_video_shape(settings, pixels_per_token, self.vae_scale_factor_temporal)
        check_numbers(settings)
        check_output(settings, self._callback_tensor_inputs)
        if given is not None:
            num_prompts = max(samples_per_argument(texts, embeds).values())
            max_latent_frames = self.transformer.config.get("pos_embed_size", [None])[0]
            given.check(settings, num_prompts, max_latent_frames, self.vae_scale_factor_temporal)
            for name, is_read in (("vae", given.clips), ("audio_vae", given.recording)):
                if is_read is not None:
                    check_encoder(self.components[name], name)

    def _warn_of_unknown_words(self, texts: dict[str, str | list[str] | None]) -> None:
        """Warn of words in the transcripts that this checkpoint has not learnt, if it says which it has."""
        known = all_words(self.config.known_words)
        if not known:
            return
        lines = {name: texts[name] for name in PROMPT_TEXTS}
        prompts = format_prompts(**lines, prompt_format=self.config.prompt_format)
        words = " ".join(prompt.partition(LABELS[-1])[2] for prompt in prompts).split()
        if unknown := unknown_words(words, known):
            logger.warning(
                f"This checkpoint has not learnt to say {unknown}, and may murmur there. The {len(known)} words that "
                "it knows, written like this, are in `pipe.config.known_words`; `diffusers-jova demo --words "
                "--model MODEL` lists them."
            )

    def _start_call(
        self, settings: CallSettings, attention_kwargs: dict[str, Any] | None, given: Given | None = None
    ) -> None:
        """Take over what the properties below tell during the call; a callback may change it."""
        self._guidance_scale = settings.guidance_scale
        self._audio_guidance_scale = settings.audio_guidance_scale
        self._modality_scale = settings.modality_scale
        self._audio_modality_scale = settings.audio_modality_scale
        self._apg_norm_threshold = settings.apg_norm_threshold
        self._batch_guidance = settings.batch_guidance
        self._modalities = settings.modalities
        whole = given.whole if given is not None else ()
        self._made_modalities = tuple(modality for modality in settings.modalities if modality not in whole)
        self._attention_kwargs = attention_kwargs
        self._current_timestep = None
        self._interrupt = False
        self._check_cache(settings.num_inference_steps, whole)

    def _check_cache(self, num_inference_steps: int, whole: tuple[str, ...]) -> None:
        """Raise a ValueError for a cache of the transformer that would make this call wrong.

        Args:
            whole: Modalities that are given whole.
        """
        cache_config = getattr(self.transformer, "_cache_config", None)
        if self.batches_guidance and isinstance(cache_config, FirstBlockCacheConfig):
            raise ValueError(
                "FirstBlockCache cannot be used with `batch_guidance=True`: it decides for the whole batch, so that a "
                "prompt would skip by its negative. Set `batch_guidance=False`, or use another cache."
            )
        if isinstance(cache_config, FasterCacheConfig) and self.num_passes > 1:
            raise ValueError(
                f"FasterCache mixes up the {self.num_passes} passes that these scales ask for. Set all scales to 1.0, "
                "or use another cache."
            )
        if "video" in whole and isinstance(cache_config, FirstBlockCacheConfig):
            raise ValueError(
                "FirstBlockCache decides by the video, and a video that is given says nothing of when the audio may "
                "skip. Call `pipe.transformer.disable_cache()`, or use another cache."
            )
        if isinstance(cache_config, MagCacheConfig) and cache_config.num_inference_steps != num_inference_steps:
            raise ValueError(
                f"This MagCache was made for {cache_config.num_inference_steps} steps, and the call takes "
                f"{num_inference_steps}: its ratios would be those of other noise levels. Enable it anew with "
                f"`MagCacheConfig(num_inference_steps={num_inference_steps}, ...)`, or call "
                "`pipe.transformer.disable_cache()`."
            )

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
        arguments = locals()  # by name, as they were given
        device = device or self._execution_device
        embeds = {name: arguments[name] for name in PROMPT_EMBEDS}
        loaded = (self.text_encoder is not None, self.text_encoder_2 is not None)
        check_embeds(embeds, loaded, do_classifier_free_guidance)
        prompt_format = self.config.prompt_format
        texts = format_prompts(prompt, audio_prompt, transcript, prompt_format=prompt_format)
        negative_texts = format_prompts(negative_prompt, negative_audio_prompt, prompt_format=prompt_format)
        if prompt_embeds is None and prompt_embeds_2 is None:
            embeds |= self._encode_texts(texts, max_sequence_length)
        if not do_classifier_free_guidance:
            embeds |= {name: None for name in embeds if name.startswith("negative_")}
        elif negative_prompt_embeds is None and negative_prompt_embeds_2 is None:
            embeds |= self._encode_texts(negative_texts, max_sequence_length, "negative_")
        embeds = repeat_samples(embeds, num_videos_per_prompt, device, dtype)

        # spelled out because diffusers' own tests read the names of the call's arguments from this statement
        (
            prompt_embeds,
            prompt_attention_mask,
            prompt_embeds_2,
            prompt_attention_mask_2,
            negative_prompt_embeds,
            negative_prompt_attention_mask,
            negative_prompt_embeds_2,
            negative_prompt_attention_mask_2,
        ) = embeds.values()
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

    def _encode_texts(
        self, texts: list[str], max_sequence_length: int, prefix: str = ""
    ) -> dict[str, torch.Tensor | None]:
        """Return states (B, T, text_embed_dim) and masks (B, T) by their names in `PROMPT_EMBEDS`, which begin with
        `prefix`: "" or "negative_". None for an encoder that is not there."""
        if self.text_encoder is None and self.text_encoder_2 is None:
            raise ValueError(
                f"`{prefix}prompt` needs a text encoder, and this pipeline was loaded without one. Load it with one, "
                f"or pass `{prefix}prompt_embeds` (encode once with `encode_prompt`, keep with `save_prompt_embeds`)."
            )
        embeds: dict[str, torch.Tensor | None] = {}
        for suffix in ("", "_2"):
            tokenizer, text_encoder = getattr(self, f"tokenizer{suffix}"), getattr(self, f"text_encoder{suffix}")
            if text_encoder is None:
                embeds |= {f"{prefix}prompt_embeds{suffix}": None, f"{prefix}prompt_attention_mask{suffix}": None}
                continue
            if tokenizer is None:
                raise ValueError(
                    f"`text_encoder{suffix}` needs `tokenizer{suffix}`, which this pipeline was loaded without. "
                    "Load it with both, or with neither."
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
            embeds[f"{prefix}prompt_embeds{suffix}"] = states.last_hidden_state
            embeds[f"{prefix}prompt_attention_mask{suffix}"] = inputs.attention_mask
        return embeds

    # 3. Latents

    def _latent_shapes(self, num_prompts: int, settings: CallSettings) -> dict[str, tuple[int, ...]]:
        """Return the shapes (B, C, F, H, W) of `latents` and (B, C, A) of `audio_latents`: of what is to be made."""
        config, batch_size = self.transformer.config, num_prompts * settings.num_videos_per_prompt
        shapes = {}
        if "video" in settings.modalities:
            num_frames = num_latent_frames(settings.num_frames, self.vae_scale_factor_temporal)
            size = (side // self.vae_scale_factor_spatial for side in (settings.height, settings.width))
            shapes["latents"] = (batch_size, config.out_channels, num_frames, *size)
        if "audio" in settings.modalities:
            num_latents = num_audio_latents(settings.num_frames, settings.frame_rate, config.audio_latent_rate)
            shapes["audio_latents"] = (batch_size, config.audio_in_channels, num_latents)
        return shapes

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
        """Return reference images as pixels (N, 3, height, width) in [-1, 1], or None without an image.

        They are cropped around their centre and resized as training does with its frames, in 8 bits.

        Args:
            image: What `images.to_uint8` takes: one image, or `num_prompts` of them.
            num_prompts: Prompts in the call, without their repetitions.
            height, width: In pixels.

        Raises:
            ValueError: If an image cannot be read or holds NaN, or there are neither one nor one per prompt.
        """
        if image is None:
            return None
        images = to_uint8(image)
        if len(images) not in (1, num_prompts):
            raise ValueError(f"Got {len(images)} images for {num_prompts} prompts: pass one, or one per prompt.")
        return normalize_frames(np.stack([fit_frame(image, height, width) for image in images]))

    def _encode_pixels(self, pixels: torch.Tensor, device: torch.device) -> torch.Tensor:
        """(B, 3, frames, height, width) in [-1, 1] -> (B, C, F, H, W)"""
        num_latents = num_latent_frames(pixels.shape[2], self.vae_scale_factor_temporal)
        # the VAE reads one frame and then four at a time, also where it has a latent frame for each, and leaves out
        # what is less than four; it is causal, so that repeated frames at the end change nothing before them
        pixels = F.pad(pixels, (0, 0, 0, 0, 0, -(pixels.shape[2] - 1) % WAN_CHUNK), mode="replicate")
        pixels = pixels.to(device=get_module_execution_device(self.vae), dtype=self.vae.dtype)
        latents = self.vae.encode(pixels).latent_dist.mode()[:, :, :num_latents]
        return normalize_latents(latents.to(device=device, dtype=torch.float32), self.vae.config)

    def _encode_samples(self, samples: torch.Tensor, device: torch.device) -> torch.Tensor:
        """(B, samples of A whole latents), mono, at the audio VAE's rate -> (B, C, A)"""
        samples = samples.to(get_module_execution_device(self.audio_vae))
        latents = self.audio_vae.encode(samples).latent_dist.mode()
        return normalize_latents(latents.to(device=device, dtype=torch.float32), self.audio_vae.config)

    def prepare_given(
        self,
        given: Given | None,
        tensors: dict[str, torch.Tensor | None],
        settings: CallSettings,
        image: torch.Tensor | None = None,
    ) -> GivenLatents | None:
        """Return what is given as latents, encoded up to the last one that is given; None where nothing is.

        Args:
            given: What of the clip is given, None for nothing.
            tensors: The noise: `latents` (B, C, F, H, W) and `audio_latents` (B, C, A); None where it is not made.
            settings: Of the call.
            image: `(num_prompts, 3, height, width)` of `prepare_image`, or None. It is latent frame 0 where the
                transformer has a timestep for each frame, and `prepare_condition`'s where it has not.
        """
        noise = {name: tensors[name] for name in LATENTS.values() if tensors[name] is not None}
        masks = {}
        if given is not None:
            masks = given.masks(
                {name: one_noise.shape[2] for name, one_noise in noise.items()},
                settings.frame_rate,
                self.transformer.config.audio_latent_rate,
                self.vae_scale_factor_temporal,
            )
        has_frame_timesteps = self.transformer.config.get("condition_fill") == "noisy"
        if image is not None and has_frame_timesteps:
            masks["latents"] = torch.arange(noise["latents"].shape[2]) == 0
        elif given is None:
            return None
        clean, is_given, pixels = {}, {}, None
        for name, mask in masks.items():
            if not mask.any():
                continue
            one_noise = noise[name]
            device, num_given = one_noise.device, int(mask.nonzero().max()) + 1
            if name == "latents":
                num_frames = self.vae_scale_factor_temporal * (num_given - 1) + 1
                pixels = (
                    image[:, :, None] if image is not None else normalize_frames(given.frames(settings, num_frames))
                )
                latents = self._encode_pixels(pixels, device)
            else:
                num_samples = num_given * MEL_FRAMES_PER_LATENT * self.audio_vae.config.hop_length
                samples = given.recording.for_model(self.audio_sampling_rate, num_samples)
                latents = self._encode_samples(samples, device)
            latents = latents.repeat_interleave(len(one_noise) // len(latents), dim=0)
            clean[name] = torch.zeros_like(one_noise)
            clean[name][:, :, :num_given] = latents
            is_given[name] = mask.to(device)
        mode = self.transformer.config.get("condition_mode") or "noised"
        noise = {name: noise[name] for name in clean}
        return GivenLatents(clean, is_given, noise, mode, pixels, has_frame_timesteps)

    def prepare_condition(
        self,
        pixels: torch.Tensor | None,
        latents: torch.Tensor | None,
        height: int,
        width: int,
        given: GivenLatents | None = None,
    ) -> torch.Tensor | None:
        """Return the channels beside the noisy latents, (B, C + 4, F, H, W), or None where the transformer takes none.

        The image is given as latent frame 0, or the latent frames of a given clip; the other frames hold the latent
        of a black frame, or what the VAE makes of the image, or the clip, and grey frames where nothing is given, as
        the transformer's `condition_fill` says. See `conditioning.condition_channels`.

        Args:
            pixels: `(num_prompts, 3, height, width)` of `prepare_image`, or None where nothing is given.
            latents: `(B, C, F, H, W)`, the noise, B a multiple of `num_prompts`; None where no video is made.
            height, width: In pixels.
            given: What is given of a clip, if anything.
        """
        if latents is None or self.transformer.config.in_channels == self.transformer.config.out_channels:
            return None
        batch_size, _, num_latent_frames, *_ = latents.shape
        size = (height, width)
        frames = pixels[:, :, None] if pixels is not None else None
        is_given = torch.full((1,), pixels is not None, device=latents.device)
        if given is not None and given.pixels is not None:
            frames, is_given = given.pixels, given.is_given["latents"]
        if self.transformer.config.get("condition_fill", "black") == "grey":
            video = grey_where_not_given(frames, is_given, num_latent_frames, self.vae_scale_factor_temporal, size)
            filler_latents = self._encode_pixels(video, latents.device)
            filler_latents = filler_latents.repeat_interleave(batch_size // len(filler_latents), dim=0)
            clean_latents = filler_latents[:, :, :1]
        else:
            filler_latents = self._encode_pixels(torch.full((1, 3, 1, *size), -1.0), latents.device)
            clean_latents = filler_latents if pixels is None else self._encode_pixels(frames, latents.device)
            clean_latents = clean_latents.repeat_interleave(batch_size // len(clean_latents), dim=0)  # (B, C, 1, H, W)
        if given is not None and given.pixels is not None:
            clean_latents = given.clean["latents"]  # (B, C, F, H, W)
        is_given = is_given.expand(batch_size, -1)
        return condition_channels(
            clean_latents, is_given, filler_latents, num_latent_frames, self.vae_scale_factor_temporal
        )

    # 4. Denoising

    # What the current call works with, or the last one did. Callbacks read it, and may change what begins with "_".

    @property
    def guidance_scale(self) -> float:
        """Scale of the video's classifier-free guidance."""
        return self._guidance_scale

    @property
    def audio_guidance_scale(self) -> float:
        """The same of the audio; the video's unless it was given its own."""
        return self._guidance_scale if self._audio_guidance_scale is None else self._audio_guidance_scale

    @property
    def modality_scale(self) -> float:
        """Scale of the video's cross-modal guidance."""
        return self._modality_scale

    @property
    def audio_modality_scale(self) -> float:
        """The same of the audio."""
        return self._audio_modality_scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether a scale of a modality that is made, and not given, asks for the unconditional pass."""
        scales = {"video": self.guidance_scale, "audio": self.audio_guidance_scale}
        return any(scales[modality] != 1.0 for modality in self._made_modalities)

    @property
    def do_modality_guidance(self) -> bool:
        """Whether a scale of a modality that is made asks for the pass without cross-modal attention, which takes two
        modalities."""
        scales = {"video": self.modality_scale, "audio": self.audio_modality_scale}
        return len(self._modalities) == 2 and any(scales[modality] != 1.0 for modality in self._made_modalities)

    @property
    def batches_guidance(self) -> bool:
        """Whether the prompt and its negative go through the transformer in one batch."""
        return self._batch_guidance and self.do_classifier_free_guidance

    @property
    def num_passes(self) -> int:
        """Calls of the transformer per step."""
        return 1 + (self.do_classifier_free_guidance and not self._batch_guidance) + self.do_modality_guidance

    @property
    def attention_kwargs(self) -> dict[str, Any] | None:
        """As in the call."""
        return self._attention_kwargs

    @property
    def num_timesteps(self) -> int:
        """Denoising steps."""
        return self._num_timesteps

    @property
    def current_timestep(self) -> torch.Tensor | None:
        """Timestep of the step, 1000 (noise) to 0 (data); None between calls."""
        return self._current_timestep

    @property
    def interrupt(self) -> bool:
        """Whether the steps that are left are skipped."""
        return self._interrupt

    @property
    def audio_sampling_rate(self) -> int | None:
        """Samples per second of the audio, from the audio VAE's config; None without an audio VAE."""
        config = getattr(getattr(self, "audio_vae", None), "config", {})
        return config.get("sampling_rate", config.get("sample_rate"))

    def denoise(
        self,
        tensors: dict[str, torch.Tensor | None],
        condition: torch.Tensor | None,
        num_inference_steps: int,
        sigmas: list[float] | np.ndarray | None,
        frame_rate: float,
        generator: torch.Generator | list[torch.Generator] | None,
        callback_on_step_end: Callable | None,
        callback_on_step_end_tensor_inputs: list[str],
        given: GivenLatents | None = None,
    ) -> dict[str, torch.Tensor | None]:
        """Take `latents` and `audio_latents` from noise to data, in float32.

        Args:
            tensors: By the names of `_callback_tensor_inputs`: latents (B, C, F, H, W), audio_latents (B, C, A), and
                the eight outputs of `encode_prompt`. A callback may replace any of them.
            condition: (B, C + 4, F, H, W) of `prepare_condition`, or None.
            num_inference_steps: As in the call.
            sigmas: Noise levels, 1 to 0, before the scheduler's shift. None: the scheduler's usual ones.
            frame_rate: Frames per second.
            generator, callback_on_step_end, callback_on_step_end_tensor_inputs: As in the call. Of latents that are
                given whole, the callback sees nothing, and what it returns for them is put back.
            given: What is given, which stays as it is; None for nothing.

        Returns:
            `tensors` after the last step.
        """
        given = given or GivenLatents({}, {}, {}, "noised")
        set_timesteps(self.scheduler, num_inference_steps, sigmas, self._execution_device)
        texts = self._text_inputs(tensors)
        if self.transformer.has_modulation_cache:
            batch_size = next(len(tensors[name]) for name in LATENTS.values() if tensors[name] is not None)
            self._precompute_modulation(given, batch_size * (1 + self.batches_guidance))
        # each modality has its own counter of steps
        schedulers = {"latents": self.scheduler, "audio_latents": copy.deepcopy(self.scheduler)}
        timesteps = self.scheduler.timesteps
        self._num_timesteps = len(timesteps)

        with self.progress_bar(total=len(timesteps)) as progress_bar, without_value_checks():
            for i, t in enumerate(timesteps):
                if self.interrupt:
                    continue
                self._current_timestep = t
                sigma = self.scheduler.sigmas[i]
                tensors = given.at(tensors, sigma)
                velocities = self._predict(tensors, texts, condition, i, given.timesteps(t), sigma, frame_rate)
                velocities = given.go_on(velocities, tensors, sigma)
                for name, velocity in velocities.items():
                    tensors[name] = take_step(schedulers[name], velocity, t, tensors[name], generator)

                if callback_on_step_end is not None:
                    wanted = [name for name in callback_on_step_end_tensor_inputs if name not in given.whole]
                    callback_kwargs = {name: tensors[name] for name in wanted}
                    replaced = callback_on_step_end(self, i, t, callback_kwargs) or {}
                    tensors.update(replaced)
                    if not {*wanted, *replaced}.isdisjoint(PROMPT_EMBEDS):  # it may also write into what it was given
                        texts = self._text_inputs(tensors)
                progress_bar.update()

        self._current_timestep = None
        return given.at(tensors, 0.0)

    def _text_inputs(self, tensors: dict[str, torch.Tensor | None]) -> dict[str, dict[str, torch.Tensor | None]]:
        """Return the transformer's arguments for the texts: of the prompt, "", of its negative, "negative_", and, if
        they go in one batch, of "both"."""
        dtype, multiple = self.transformer.dtype, self.transformer.context_parallel_degree
        texts = {prefix: text_inputs(tensors, prefix, dtype, multiple) for prefix in ("", "negative_")}
        if self._batch_guidance and any(states is not None for states in texts["negative_"].values()):
            texts["both"] = join_text_inputs(list(texts.values()))
            is_hidden = any(texts["both"][f"encoder_attention_mask{suffix}"] is not None for suffix in ("", "_2"))
            if is_hidden and self.transformer.config.get("text_len", 0) is None:
                raise ValueError(
                    "This transformer (`text_len=None`) reads what a shorter text is filled up with, and "
                    "`batch_guidance=True` fills up the shorter one of prompt and negative. Set it to False."
                )
        return texts

    def enable_modulation_cache(self) -> None:
        """Compute the modulation of all blocks once per schedule, and let its weights leave the device.

        In jova-24b that is a third of the weights: 16.3 of 49.2 GB in bfloat16 become 0.3 GB, and no output changes.
        Call it before `to("cuda")` or offloading, and these weights never get there. The transformer serves one
        pipeline at a time then; see also `JoVATransformer3DModel.precompute_modulation`.
        """
        self.transformer.enable_modulation_cache()

    def disable_modulation_cache(self) -> None:
        """Put the modulation's weights back into their place."""
        self.transformer.disable_modulation_cache()

    def _precompute_modulation(self, given: GivenLatents, batch_size: int) -> None:
        """Let the transformer compute its modulation at all timesteps of the schedule."""
        steps = [given.timesteps(t) for t in self.scheduler.timesteps]
        timesteps, audio_timesteps = (
            torch.cat([split_timestep(timestep, 1)[0] for timestep in branch]) for branch in zip(*steps)
        )  # (K, 1) or (K, 2)
        self.transformer.precompute_modulation(
            timesteps,
            audio_timesteps,
            batch_size=batch_size,
            device=self._execution_device,
            attention_kwargs=self.attention_kwargs,
        )

    def _predict(self, tensors, texts, condition, i, timesteps, sigma, frame_rate) -> dict[str, torch.Tensor]:
        """Return the guided velocity of each modality that is made at step `i`, by the name of its latents.

        `texts` are those of `_text_inputs`, `timesteps` are the video's and the audio's.

        v = v_cond + (g - 1)(v_cond - v_uncond) + (m - 1)(v_cond - v_cond without cross-modal attention)
        """

        def run(name: str, text: str = "", cross_modal_attention: bool = True, num_copies: int = 1) -> tuple:
            latents, audio_latents, dtype = tensors["latents"], tensors["audio_latents"], self.transformer.dtype
            if latents is not None:
                latents = video_input(latents, condition).to(dtype)
                latents = latents.repeat(num_copies, 1, 1, 1, 1)
            if audio_latents is not None:
                audio_latents = audio_latents.to(dtype).repeat(num_copies, 1, 1)
            batch_size = len(latents if latents is not None else audio_latents)
            with self.transformer.cache_context(name, step_index=i, num_inference_steps=self.num_timesteps):
                outputs = self.transformer(
                    hidden_states=latents,
                    audio_hidden_states=audio_latents,
                    timestep=timesteps[0].expand(batch_size, *timesteps[0].shape[1:]),
                    audio_timestep=timesteps[1].expand(batch_size, *timesteps[1].shape[1:]),
                    frame_rate=frame_rate,
                    cross_modal_attention=cross_modal_attention,
                    attention_kwargs=self.attention_kwargs,
                    return_dict=False,
                    **texts[text],
                )
            return tuple(output.float() if output is not None else None for output in outputs)

        uncond = isolated = (None, None)
        if self.batches_guidance:
            both = run("both", "both", num_copies=2)
            cond, uncond = zip(*(output.chunk(2) if output is not None else (None, None) for output in both))
        else:
            cond = run("cond")
            if self.do_classifier_free_guidance:
                uncond = run("uncond", "negative_")
        if self.do_modality_guidance:
            isolated = run("isolated", cross_modal_attention=False)
        velocities = {}
        for modality, v_cond, v_uncond, v_isolated, scale, modality_scale in zip(
            MODALITIES,
            cond,
            uncond,
            isolated,
            (self.guidance_scale, self.audio_guidance_scale),
            (self.modality_scale, self.audio_modality_scale),
        ):
            if modality not in self._made_modalities:
                continue
            name, velocity = LATENTS[modality], v_cond
            if v_uncond is not None and scale != 1.0:
                if name == "latents" and self._apg_norm_threshold is not None:
                    velocity = projected_guidance(
                        v_cond, v_uncond, tensors[name], sigma, scale, self._apg_norm_threshold
                    )
                else:
                    velocity = velocity + (scale - 1) * (v_cond - v_uncond)
            if v_isolated is not None and modality_scale != 1.0:
                velocity = velocity + (modality_scale - 1) * (v_cond - v_isolated)
            velocities[name] = velocity
        return velocities

    # Long clips

    def iter_windows(self, **arguments) -> Iterator[JoVAPipelineOutput]:
        """Yield a long clip window by window, so that no more than a window is ever held.

        Args:
            arguments: Of a call; `window_num_frames` is the checkpoint's `num_frames` where it is not given.

        Yields:
            What is new in each window, after the frames that it has from the one before. Audio that is made comes 20
            ms behind the frames until the clip ends; audio that is given comes with them.
        """
        defaults = {name: value.default for name, value in inspect.signature(self.__call__).parameters.items()}
        yield from self._windows(self, defaults | arguments)

    def _windows(self, call: Callable, arguments: Mapping[str, Any]) -> Iterator[JoVAPipelineOutput]:
        recording = read_long_recording(arguments)
        condition_mode = self.transformer.config.get("condition_mode")
        plan = plan_call(arguments, self.config, self.vae_scale_factor_temporal, condition_mode, recording)
        return make_windows(call, arguments, plan, recording, is_interrupted=lambda: self.interrupt)

    # 5. Decoding

    def decode_latents(self, latents: torch.Tensor, output_type: str = "pil"):
        """Return the frames of video latents (B, C, F, H, W), on the transformer's scale.

        Args:
            output_type: "pil" (a list of PIL images per sample), "np" (B, num_frames, height, width, 3) or "pt"
                (B, num_frames, 3, height, width), both in [0, 1].
        """
        latents = denormalize_latents(latents, self.vae.config).to(self.vae.dtype)
        video = self.vae.decode(latents, return_dict=False)[0]
        return self.video_processor.postprocess_video(video, output_type=output_type)

    def decode_audio_latents(
        self, audio_latents: torch.Tensor, num_samples: int, output_type: str = "pil"
    ) -> torch.Tensor | np.ndarray:
        """Return the waveforms (B, num_samples), in [-1, 1], of audio latents (B, C, A) on the transformer's scale.

        Args:
            num_samples: Longer waveforms are cut, shorter ones padded with silence.
            output_type: "pt" returns a tensor, others an array.
        """
        audio_latents = denormalize_latents(audio_latents, self.audio_vae.config).to(self.audio_vae.dtype)
        log_mel = self.audio_vae.decode(audio_latents, return_dict=False)[0]
        waveform = self.vocoder(log_mel.to(self.vocoder.dtype))
        waveform = waveform if torch.is_tensor(waveform) else waveform[0]  # diffusers' own vocoder wraps its output
        audio = fit_audio(waveform[:, 0].float(), num_samples)
        return audio if output_type == "pt" else audio.cpu().numpy()

    def _decode(
        self,
        tensors: dict[str, torch.Tensor | None],
        settings: CallSettings,
        given: Given | None,
        given_latents: GivenLatents | None,
    ) -> JoVAPipelineOutput:
        """Return the output of a call: a modality that was given whole as it was given, the other decoded."""
        whole = given.whole if given is not None else ()
        frames, audio, rate = tensors["latents"], tensors["audio_latents"], self.audio_sampling_rate
        if settings.output_type != "latent":
            if "video" in whole:
                pixels = given_latents.pixels.repeat_interleave(len(frames) // len(given_latents.pixels), dim=0)
                frames = self.video_processor.postprocess_video(pixels, output_type=settings.output_type)
            elif frames is not None:
                frames = self.decode_latents(frames, settings.output_type)
            if "audio" in whole:
                rate = given.recording.sampling_rate
                num_samples = num_audio_samples(settings.num_frames, settings.frame_rate, rate)
                samples = given.recording.as_output(num_samples)
                audio = samples.repeat_interleave(len(audio) // len(samples), dim=0)
                audio = audio if settings.output_type == "pt" else audio.numpy()
            elif audio is not None:
                num_samples = num_audio_samples(settings.num_frames, settings.frame_rate, rate)
                audio = self.decode_audio_latents(audio, num_samples, settings.output_type)
        return JoVAPipelineOutput(frames=frames, audio=audio, audio_sampling_rate=rate, frame_rate=settings.frame_rate)

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
        modality_scale: float | None = None,
        audio_modality_scale: float | None = None,
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
        audio: Any = None,
        audio_sampling_rate: int | None = None,
        video: Any = None,
        keep: float | None = None,
        retake: tuple | None = None,
        window_num_frames: int | None = None,
        overlap_num_frames: int | None = None,
        window_transcripts: list[str] | list[list[str]] | None = None,
        batch_guidance: bool = False,
    ) -> JoVAPipelineOutput | tuple:
        """Make a video with its audio.

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
                Reference image, the first frame: one, or one per prompt. A path, a PIL image, an array (H, W, 3) or a
                tensor (3, H, W), in uint8 or [0, 1]; of any size, cropped around its centre.
            negative_prompt, negative_audio_prompt (`str` or `list[str]`, *optional*):
                What to steer away from. None: the unconditional prompt, three empty lines.
            height, width (`int`, *optional*):
                Size in pixels, divisible by 16; by 32 on Wan2.2-TI2V-5B.
            num_frames (`int`, *optional*):
                Number of frames, 4k + 1. The audio lasts as long as they do.
            frame_rate (`float` or `Fraction`, *optional*):
                Frames per second; 23.976 and 29.97 mean 24000/1001 and 30000/1001, as in `write_video`.
            num_inference_steps (`int`, *optional*):
                Denoising steps; the transformer is called up to three times in each, see `num_passes`.
            sigmas (`list[float]`, *optional*):
                Noise levels instead of even steps from 1, before the scheduler's shift.
            guidance_scale (`float`, *optional*):
                Classifier-free guidance of the video (arXiv:2207.12598); 1.0 is off. The paper uses 10.
            audio_guidance_scale (`float`, *optional*):
                The same for the audio. None: the value of `guidance_scale` if that is given, else the checkpoint's.
            modality_scale, audio_modality_scale (`float`, *optional*):
                Cross-modal guidance: how much further each modality goes in the direction in which the other one
                pulls it. 1.0 is off; None: the checkpoint's.
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
                Noise (B, C, A) to start the audio from, A = ceil(seconds · audio_latent_rate).
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
            audio (`str`, `Path`, `np.ndarray` or `torch.Tensor`, *optional*):
                A recording that is given, and only the video is made to it: a file, or (N,) or (C, N) in [-1, 1]
                with one or two channels; or one per prompt, as a list or (B, C, N). The output carries the samples
                themselves, cut or padded; the model reads a copy in mono at its own rate. With it `num_frames=None`
                means as long as the recording, and texts are optional.
            audio_sampling_rate (`int`, *optional*):
                Samples per second of `audio`, where it is not a file.
            video (`str`, `Path`, `media.Clip`, frames, *optional*):
                A clip that is given. Alone: its frames stay, and audio is made for them; the clip's own audio is not
                read. A file, a `media.Clip`, a list of PIL images, an array (F, H, W, 3) or a tensor (F, 3, H, W); or
                one per prompt, as a list or with one more axis. Files are read at `frame_rate`, frames are taken to
                have it; all are cropped and resized as `image`.
            keep (`float`, *optional*):
                Seconds of the beginning of `video`, with its audio, that are kept; what follows is made.
            retake (`tuple`, *optional*):
                `(start_s, end_s)` or `(start_s, end_s, modalities)`: the span of `video` that is made anew, both its
                video and its audio or one of them; the latents of the rest stay as they are, and `num_frames=None`
                means as long as the clip.
            window_num_frames (`int`, *optional*):
                Makes a long clip window by window, each of this many frames, 4k + 1, by default the checkpoint's
                `num_frames`; `num_frames` is the length of the whole. See also `iter_windows`.
            overlap_num_frames (`int`, *optional*):
                How many of a window's frames, 4k + 1, are the last ones of the window before. Default: a quarter of
                the window, or 1 for a transformer whose `condition_mode` says nothing.
            window_transcripts (`list[str]` or `list[list[str]]`, *optional*):
                The words of each window; for a batch a list of them for each prompt. `transcript` stays what one
                piece says.
            batch_guidance (`bool`, defaults to `False`):
                Runs the prompt and its negative as one batch instead of one after another: the same clip, within
                rounding, faster where a clip is too small to fill the device, and with more memory. The pass of
                cross-modal guidance stays its own, since its attention is another one.

        Examples:

        Returns:
            [`JoVAPipelineOutput`] or `tuple`: frames and audio; None for a modality that was not asked for.

        Raises:
            ValueError: If an argument does not fit, before any text encoder or the transformer runs.
            RuntimeError: If a call of this pipeline is running, in another thread or around this one.
        """
        arguments = locals()  # by name, as they were given
        arguments.pop("self")
        if isinstance(callback_on_step_end, PipelineCallback | MultiPipelineCallbacks):
            arguments["callback_on_step_end_tensor_inputs"] = callback_on_step_end.tensor_inputs

        if any(arguments[name] is not None for name in WINDOWS):
            windows = self._windows(functools.partial(inspect.unwrap(type(self).__call__), self), arguments)
            output = join_windows(windows)
            return output if return_dict else (output.frames, output.audio)

        # 1. Inputs. Of what `settings` holds, the arguments themselves may be None
        given = Given.from_arguments(arguments)
        if given is not None and num_frames is None:
            rate = frame_rate if frame_rate is not None else self.config.frame_rate
            default = self.config.num_frames
            arguments["num_frames"] = given.num_frames(rate, self.vae_scale_factor_temporal, default)
        settings = CallSettings.from_arguments(arguments, self.config)
        texts = {name: arguments[name] for name in TEXTS}
        embeds = {name: arguments[name] for name in PROMPT_EMBEDS}
        self.check_inputs(texts, embeds, image, settings, given)
        self._warn_of_unknown_words(texts)
        self._start_call(settings, attention_kwargs, given)
        device = self._execution_device
        num_prompts = max(samples_per_argument(texts, embeds).values())

        # 2. Noise and image: cheap, and wrong arguments show here, before the text encoders run
        noise = {"latents": latents, "audio_latents": audio_latents}
        tensors = dict.fromkeys(noise)  # None for a modality that the clip does not have
        for name, shape in self._latent_shapes(num_prompts, settings).items():
            tensors[name] = self.prepare_latents(shape, generator, device, noise[name], name)
        pixels = self.prepare_image(image, num_prompts, settings.height, settings.width)
        given_latents = self.prepare_given(given, tensors, settings, pixels)

        # 3. Text, and the image's latents
        encoded = self.encode_prompt(
            **texts,
            **embeds,
            do_classifier_free_guidance=self.do_classifier_free_guidance,
            num_videos_per_prompt=num_videos_per_prompt,
            max_sequence_length=max_sequence_length,
            device=device,
        )
        tensors |= dict(zip(PROMPT_EMBEDS, encoded))
        condition = self.prepare_condition(pixels, tensors["latents"], settings.height, settings.width, given_latents)

        # 4. Denoising
        tensors = self.denoise(
            tensors,
            condition,
            settings.num_inference_steps,
            sigmas,
            float(exact_frame_rate(settings.frame_rate)),
            generator,
            callback_on_step_end,
            settings.callback_on_step_end_tensor_inputs,
            given_latents,
        )

        # 5. Decoding, or what was given itself
        output = self._decode(tensors, settings, given, given_latents)
        self.maybe_free_model_hooks()
        return output if return_dict else (output.frames, output.audio)
