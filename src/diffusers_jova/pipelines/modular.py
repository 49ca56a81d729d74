# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The pipeline as blocks of diffusers' Modular Pipelines: text encoder, latents, denoising, decoder.

    pipe = JoVABlocks().init_pipeline(folder)
    pipe.load_components()
    state = pipe(prompt="A man is talking.", transcript="six four")  # state.frames, state.waveform

Each block calls the methods of a `JoVAPipeline` that is made of its components for the moment, so that there is one
loop and one set of checks. A block may be taken out, replaced, or run alone with the components that it needs.
"""

import inspect
import os
from typing import Any

from diffusers import ComponentsManager, ModularPipeline, ModularPipelineBlocks, SequentialPipelineBlocks
from diffusers.models import AutoencoderKLWan
from diffusers.modular_pipelines import ComponentSpec, ConfigSpec, InputParam, OutputParam, PipelineState
from diffusers.schedulers import FlowMatchEulerDiscreteScheduler
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..latents import exact_frame_rate
from ..models.autoencoder_mmaudio import AutoencoderMMAudio
from ..models.transformer_jova import JoVATransformer3DModel
from ..models.vocoder_bigvgan import BigVGANVocoder
from ..pipeline_folder import find_model
from .directions import Given
from .inputs import DEFAULTS, CallSettings, check_numbers, samples_per_argument
from .pipeline_jova import JoVAPipeline
from .prompts import PROMPT_EMBEDS, TEXTS


# One class of each part: a folder says itself which one it has.
PARTS: dict[str, type] = {
    "tokenizer": PreTrainedTokenizerBase,
    "text_encoder": PreTrainedModel,
    "tokenizer_2": PreTrainedTokenizerBase,
    "text_encoder_2": PreTrainedModel,
    "vae": AutoencoderKLWan,
    "audio_vae": AutoencoderMMAudio,
    "vocoder": BigVGANVocoder,
    "transformer": JoVATransformer3DModel,
    "scheduler": FlowMatchEulerDiscreteScheduler,
}
CONFIG = (*DEFAULTS, "audio_guidance_scale", "prompt_format")  # the checkpoint's own values
OF_PIPELINE = inspect.signature(JoVAPipeline.__init__).parameters
OF_CALL = inspect.signature(JoVAPipeline.__call__).parameters
GIVEN = ("audio", "audio_sampling_rate", "video", "keep", "retake")
SIZE = ("height", "width", "num_frames", "frame_rate")
MADE = ("latents", "audio_latents")


def arguments(*names: str) -> list[InputParam]:
    """Return arguments of the pipeline's call as inputs of a block, with their defaults."""
    text = "As in `JoVAPipeline.__call__`."
    return [
        InputParam(name, type_hint=OF_CALL[name].annotation, default=OF_CALL[name].default, description=text)
        for name in names
    ]


def pipeline_of(components: ModularPipeline) -> JoVAPipeline:
    """Return a `JoVAPipeline` of the components that a modular pipeline has; the others are None."""
    parts = {name: getattr(components, name, None) for name in PARTS}
    return JoVAPipeline(**parts, **{name: components.config[name] for name in CONFIG if name in components.config})


def settings_of(pipe: JoVAPipeline, inputs: dict[str, Any]) -> CallSettings:
    """Return the settings of a call with a block's inputs, and with its defaults for all others."""
    defaults = {name: parameter.default for name, parameter in OF_CALL.items()}
    return CallSettings.from_arguments(defaults | inputs, pipe.config)


class OfJoVA:
    """What all blocks share."""

    model_name = "jova"
    parts: tuple[str, ...] = ()

    @property
    def expected_components(self) -> list[ComponentSpec]:
        return [ComponentSpec(name, PARTS[name]) for name in self.parts]

    @property
    def expected_configs(self) -> list[ConfigSpec]:
        return [ConfigSpec(name, OF_PIPELINE[name].default) for name in CONFIG]


class ByName:
    """Finds checkpoints that come with the package."""

    def init_pipeline(
        self,
        pretrained_model_name_or_path: str | os.PathLike | None = None,
        components_manager: ComponentsManager | None = None,
        collection: str | None = None,
    ) -> ModularPipeline:
        """Return a modular pipeline of these blocks; `load_components` then loads what they need, and no more.

        Args:
            pretrained_model_name_or_path: A folder of `JoVAPipeline`, its name on the Hub, or "jova-nano"; None for
                components that come with `update_components`.
            components_manager, collection: See `ModularPipelineBlocks.init_pipeline`.
        """
        if pretrained_model_name_or_path is not None:
            pretrained_model_name_or_path = find_model(pretrained_model_name_or_path)
        return super().init_pipeline(pretrained_model_name_or_path, components_manager, collection)  # type: ignore[misc]


class JoVATextEncoderStep(ByName, OfJoVA, ModularPipelineBlocks):
    """Texts to the states of both text encoders, by the names in `PROMPT_EMBEDS`, as `encode_prompt` returns them."""

    parts = ("tokenizer", "text_encoder", "tokenizer_2", "text_encoder_2")
    description = "Encodes the three lines of the prompt and its negative."
    inputs = arguments(*TEXTS, "num_videos_per_prompt", "max_sequence_length")
    intermediate_outputs = [OutputParam(name) for name in PROMPT_EMBEDS]

    def __call__(self, components: ModularPipeline, state: PipelineState) -> tuple[ModularPipeline, PipelineState]:
        block_state = self.get_block_state(state)
        encoded = pipeline_of(components).encode_prompt(**{item.name: block_state[item.name] for item in self.inputs})
        for name, tensor in zip(PROMPT_EMBEDS, encoded):
            block_state[name] = tensor
        self.set_block_state(state, block_state)
        return components, state


class JoVAPrepareLatentsStep(ByName, OfJoVA, ModularPipelineBlocks):
    """Noise, an image and given media to what denoising starts from, after all checks of the call."""

    parts = ("vae", "audio_vae", "transformer")
    description = "Draws the noise, and encodes the image and what is given of the clip."
    inputs = arguments(
        "image", *SIZE, "modalities", "num_videos_per_prompt", "generator", *MADE, *GIVEN, *PROMPT_EMBEDS
    )
    intermediate_outputs = [
        *(OutputParam(name) for name in MADE),
        OutputParam("condition", description="The channels beside the noisy latents, (B, C + 4, F, H, W), or None."),
        OutputParam("given", description="What is given of the clip, or None."),
        OutputParam("given_latents", description="The same as latents, or None."),
    ]

    def __call__(self, components: ModularPipeline, state: PipelineState) -> tuple[ModularPipeline, PipelineState]:
        block_state = self.get_block_state(state)
        pipe, inputs = pipeline_of(components), {item.name: block_state[item.name] for item in self.inputs}
        given = Given.from_arguments(inputs)
        if given is not None and inputs["num_frames"] is None:
            rate = inputs["frame_rate"] if inputs["frame_rate"] is not None else pipe.config.frame_rate
            inputs["num_frames"] = given.num_frames(rate, pipe.vae_scale_factor_temporal, pipe.config.num_frames)
        settings = settings_of(pipe, inputs | {"output_type": "latent"})
        embeds = {name: inputs[name] for name in PROMPT_EMBEDS}
        pipe.check_inputs(dict.fromkeys(TEXTS), embeds, inputs["image"], settings, given)
        num_prompts = max(samples_per_argument({}, embeds).values()) // settings.num_videos_per_prompt
        tensors = dict.fromkeys(MADE)
        for name, shape in pipe._latent_shapes(num_prompts, settings).items():
            device, noise = pipe._execution_device, inputs[name]
            tensors[name] = pipe.prepare_latents(shape, inputs["generator"], device, noise, name)
        pixels = pipe.prepare_image(inputs["image"], num_prompts, settings.height, settings.width)
        given_latents = pipe.prepare_given(given, tensors, settings, pixels)
        block_state["condition"] = pipe.prepare_condition(
            pixels, tensors["latents"], settings.height, settings.width, given_latents
        )
        block_state["given"], block_state["given_latents"] = given, given_latents
        for name, value in (*tensors.items(), *((name, getattr(settings, name)) for name in SIZE)):
            block_state[name] = value
        self.set_block_state(state, block_state)
        return components, state


class JoVADenoiseStep(ByName, OfJoVA, ModularPipelineBlocks):
    """Latents from noise to data: `JoVAPipeline.denoise`, which sets the timesteps, too."""

    parts = ("transformer", "scheduler")
    description = "Takes the latents from noise to data, with guidance."
    inputs = [
        *arguments("num_inference_steps", "sigmas", "guidance_scale", "audio_guidance_scale", "modality_scale"),
        *arguments("audio_modality_scale", "apg_norm_threshold", "batch_guidance", "attention_kwargs", "generator"),
        *arguments("frame_rate", "modalities", "callback_on_step_end", "callback_on_step_end_tensor_inputs"),
        *arguments(*MADE, *PROMPT_EMBEDS),
        *(InputParam(name) for name in ("condition", "given", "given_latents")),
    ]
    intermediate_outputs = [OutputParam(name) for name in MADE]
    _progress_bar_config: dict[str, Any] = {}

    def set_progress_bar_config(self, **kwargs: Any) -> None:
        """Set how progress is shown, as `disable=True`."""
        self._progress_bar_config = kwargs

    def __call__(self, components: ModularPipeline, state: PipelineState) -> tuple[ModularPipeline, PipelineState]:
        block_state = self.get_block_state(state)
        pipe, inputs = pipeline_of(components), {item.name: block_state[item.name] for item in self.inputs}
        pipe.set_progress_bar_config(**self._progress_bar_config)
        settings = settings_of(pipe, inputs)
        check_numbers(settings)
        pipe._start_call(settings, inputs["attention_kwargs"], inputs["given"])
        tensors = {name: inputs[name] for name in (*MADE, *PROMPT_EMBEDS)}
        if not pipe.do_classifier_free_guidance:
            tensors |= {name: None for name in PROMPT_EMBEDS if name.startswith("negative_")}
        tensors = pipe.denoise(
            tensors,
            inputs["condition"],
            settings.num_inference_steps,
            inputs["sigmas"],
            float(exact_frame_rate(settings.frame_rate)),
            inputs["generator"],
            inputs["callback_on_step_end"],
            settings.callback_on_step_end_tensor_inputs,
            inputs["given_latents"],
        )
        for name in MADE:
            block_state[name] = tensors[name]
        self.set_block_state(state, block_state)
        return components, state


class JoVADecodeStep(ByName, OfJoVA, ModularPipelineBlocks):
    """Latents to frames and a waveform; what was given whole comes out as it was given."""

    parts = ("vae", "audio_vae", "vocoder")
    description = "Decodes the latents of the video and of the audio."
    inputs = [
        *arguments("num_frames", "frame_rate", "output_type", *MADE),
        *(InputParam(name) for name in ("given", "given_latents")),
    ]
    intermediate_outputs = [  # not "audio" and "audio_sampling_rate": a state that goes on would take them as given
        OutputParam("frames", description="As in `JoVAPipelineOutput`."),
        OutputParam("waveform", description="Its `audio`."),
        OutputParam("sampling_rate", description="Its `audio_sampling_rate`."),
    ]

    def __call__(self, components: ModularPipeline, state: PipelineState) -> tuple[ModularPipeline, PipelineState]:
        block_state = self.get_block_state(state)
        pipe, inputs = pipeline_of(components), {item.name: block_state[item.name] for item in self.inputs}
        settings = settings_of(pipe, inputs)
        output = pipe._decode(inputs, settings, inputs["given"], inputs["given_latents"])
        block_state["frames"], block_state["waveform"] = output.frames, output.audio
        block_state["sampling_rate"] = output.audio_sampling_rate
        self.set_block_state(state, block_state)
        return components, state


class JoVABlocks(ByName, SequentialPipelineBlocks):
    """All blocks of a call, from texts to frames and a waveform: the same clip as `JoVAPipeline`'s, to the bit.

    Inputs are the arguments of `JoVAPipeline.__call__`, but for those of long clips (`window_num_frames` and its kin),
    which are several calls. Outputs are `frames`, `waveform`, `sampling_rate` and all that is between.
    """

    model_name = "jova"
    block_names = ["text_encoder", "prepare_latents", "denoise", "decode"]
    block_classes = [JoVATextEncoderStep, JoVAPrepareLatentsStep, JoVADenoiseStep, JoVADecodeStep]
    description = "Makes a video and its audio together."
