# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The nodes: load, LoRA, encode, sample, decode. Together they are one call of `JoVAPipeline`, to the bit.

Their classes keep to ComfyUI's first contract (INPUT_TYPES, RETURN_TYPES, FUNCTION, CATEGORY), which every version of
it reads. ComfyUI keeps what a node returned until its inputs change, and runs everything in `torch.inference_mode()`.

B batch, C channels, F latent frames, H W rows and columns, A audio latents, N audio samples
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import torch

from ..cli.pipeline import NUMBERS, TEXTS, check_device, check_model, load_pipeline
from ..latents import exact_frame_rate, fit_audio, num_audio_samples
from ..pipelines.inputs import MODALITIES
from ..pipelines.prompts import PROMPT_EMBEDS
from . import host


if TYPE_CHECKING:  # seconds to import, which ComfyUI's start need not wait for
    from ..pipelines.given_media import Recording
    from ..pipelines.pipeline_jova import JoVAPipeline


DEVICES = ["auto", "cuda", "cpu", "mps", "xpu"]
DTYPES = ["auto", "bfloat16", "float16", "float32"]
LARGEST_SEED = 2**64 - 1
OWN = "0: the checkpoint's own, or off"
NUMBER_INPUTS: dict[type, tuple[str, dict[str, Any]]] = {
    int: ("INT", {"default": 0, "min": 0, "max": 2**20}),
    float: ("FLOAT", {"default": 0.0, "min": 0.0, "max": 1000.0, "step": 0.1, "round": 0.001}),
}
SIZE = {"step": 16}  # of the arrows beside the number: Wan's VAEs and patches take multiples of it, or of its double
WHOLE_ON_A_GPU: WeakSet[JoVAPipeline] = WeakSet()


@dataclass(frozen=True)
class LoadedPipeline:
    """What a JOVA_PIPELINE connection carries: a pipeline, which all branches of a workflow share, and its LoRAs.

    Attributes:
        pipe: The pipeline.
        device: That it works on.
        is_offloaded: Whether it brings its components there itself, one at a time.
        loras: The file of each LoRA and its strength.
    """

    pipe: JoVAPipeline
    device: str = "cpu"
    is_offloaded: bool = False
    loras: tuple[tuple[str, float], ...] = ()

    def at_work(self) -> JoVAPipeline:
        """Return the pipeline on its device; other models and pipelines leave the GPU and wait in main memory.

        ComfyUI lets go of the last workflow's pipeline only after this one's first node, so both would be there.
        """
        if torch.device(self.device).type == "cpu":
            return self.pipe
        host.make_room()
        for other in set(WHOLE_ON_A_GPU) - {self.pipe}:
            other.to("cpu", silence_dtype_warnings=True)  # it only waits there, which any dtype can
            WHOLE_ON_A_GPU.discard(other)
        if not self.is_offloaded:
            WHOLE_ON_A_GPU.add(self.pipe)
            self.pipe.to(self.device)
        return self.pipe

    def with_loras(self) -> JoVAPipeline:
        """Return the pipeline at work, with exactly these LoRAs in its transformer, whatever another branch put there.

        Raises:
            FileNotFoundError: If a file is gone.
            ValueError: If one is damaged, or is not a LoRA for this transformer.
        """
        pipe = self.at_work()
        strengths: dict[str, float] = {}
        files = {f"lora_{fingerprint(lora)}": lora for lora, _ in self.loras}
        for lora, strength in self.loras:
            name = f"lora_{fingerprint(lora)}"
            strengths[name] = strengths.get(name, 0.0) + strength
        loaded = set(pipe.get_list_adapters().get("transformer", []))
        if loaded and not strengths:
            pipe.unload_lora_weights()
        elif gone := loaded - strengths.keys():
            pipe.delete_adapters(sorted(gone))
        for name in strengths.keys() - loaded:
            pipe.load_lora_weights(files[name], adapter_name=name)
        if strengths:
            pipe.set_adapters(list(strengths), list(strengths.values()))
        return pipe


@dataclass(frozen=True)
class Conditioning:
    """What a JOVA_CONDITIONING connection carries.

    Attributes:
        embeds: What `JoVAPipeline.encode_prompt` returned, by the names in `PROMPT_EMBEDS`.
        image: The first frame, `(3, H, W)` in [0, 1], if it is given.
        recording: The audio, if it is given.
    """

    embeds: dict[str, torch.Tensor | None]
    image: torch.Tensor | None
    recording: Recording | None


@dataclass(frozen=True)
class Latents:
    """What a JOVA_LATENTS connection carries.

    Attributes:
        latents: Of the video, `(1, C, F, H, W)`.
        audio_latents: `(1, C, A)`, None for a pipeline that makes no audio.
        num_frames, frame_rate: Of the clip; frames, and frames per second.
        recording: The audio itself, where it was given.
    """

    latents: torch.Tensor
    audio_latents: torch.Tensor | None
    num_frames: int
    frame_rate: float
    recording: Recording | None


def fingerprint(path: str) -> str:
    """Return what changes when a file, or a file in a folder, is written anew; of any other name, the name's own."""
    root = Path(path)
    files = sorted(root.rglob("*")) if root.is_dir() else [root]
    facts = [(str(file), *file.stat()[6:9:2]) for file in files if file.is_file()]  # size, time of writing
    return blake2b(repr((path, facts)).encode(), digest_size=8).hexdigest()


def find_device(device: str) -> str:
    """Return the device that a node's input means.

    Raises:
        ValueError: If torch cannot use it here.
    """
    if device == "auto":
        return host.default_device() or check_device(None)
    try:
        return check_device(device)
    except ValueError as error:  # it speaks of a flag
        raise ValueError(str(error).removeprefix("--")) from error


class LoadPipeline:
    """Loads a pipeline."""

    DESCRIPTION = "Loads a JoVA pipeline, which makes a video and its audio together."
    CATEGORY = "JoVA"
    RETURN_TYPES = ("JOVA_PIPELINE",)
    RETURN_NAMES = ("pipeline",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        model = "jova-nano, a pipeline's folder, a name in models/diffusers, or a name on the Hub"
        return {
            "required": {
                "model": ("STRING", {"default": "jova-nano", "tooltip": model}),
                "device": (DEVICES, {"default": "auto", "tooltip": "auto: the one that ComfyUI works on"}),
                "dtype": (DTYPES, {"default": "auto", "tooltip": "auto: bfloat16 on a GPU, float32 on a CPU"}),
                "cpu_offload": (
                    "BOOLEAN",
                    {"default": False, "tooltip": "keep only the component at work on the GPU"},
                ),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, model: str | None = None) -> bool | str:
        if model is None:  # it comes from another node
            return True
        try:
            check_model(host.find("diffusers", model))
        except (OSError, ValueError) as error:
            return str(error)
        return True

    @classmethod
    def IS_CHANGED(cls, model: str | None = None, **others: Any) -> str:
        return "" if model is None else fingerprint(check_model(host.find("diffusers", model)))

    def load(self, model: str, device: str, dtype: str, cpu_offload: bool) -> tuple[LoadedPipeline]:
        """Return the pipeline.

        Raises:
            FileNotFoundError: If there is no such folder.
            ValueError: If the device cannot be used, or the folder cannot be read.
        """
        device = find_device(device)
        kind = torch.device(device).type
        if cpu_offload and kind == "cpu":
            raise ValueError("`cpu_offload` needs a GPU to offload from. Switch it off, or choose another `device`.")
        pipe = load_pipeline(host.find("diffusers", model), kind, None if dtype == "auto" else dtype)
        if cpu_offload:
            pipe.enable_model_cpu_offload(device=device)
        loaded = LoadedPipeline(pipe, device, cpu_offload)
        loaded.at_work()
        return (loaded,)


class LoadLora:
    """Adds a LoRA to a pipeline."""

    DESCRIPTION = "Adds a LoRA. Several of these nodes in a row add up."
    CATEGORY = "JoVA"
    RETURN_TYPES = ("JOVA_PIPELINE",)
    RETURN_NAMES = ("pipeline",)
    FUNCTION = "add"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        strength = {"default": 1.0, "min": -10.0, "max": 10.0, "step": 0.05, "tooltip": "0 is off"}
        return {
            "required": {
                "pipeline": ("JOVA_PIPELINE",),
                "lora": ("STRING", {"default": "", "tooltip": "a .safetensors file, or its name in models/loras"}),
                "strength": ("FLOAT", strength),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, lora: str | None = None) -> bool | str:
        if lora is None or Path(host.find("loras", lora)).is_file():
            return True
        return f"There is no LoRA file {lora!r}: give its path, or its name in ComfyUI's models/loras."

    @classmethod
    def IS_CHANGED(cls, lora: str | None = None, **others: Any) -> str:
        return "" if lora is None else fingerprint(host.find("loras", lora))

    def add(self, pipeline: LoadedPipeline, lora: str, strength: float) -> tuple[LoadedPipeline]:
        """Return the same pipeline with a LoRA more, which is read when the pipeline samples."""
        return (replace(pipeline, loras=(*pipeline.loras, (host.find("loras", lora), strength))),)


class Encode:
    """Encodes the texts, and takes what else is given of the clip."""

    DESCRIPTION = (
        "Encodes the three lines of the prompt and its negative. An image becomes the first frame; a recording stays "
        "as it is, and the video is made to it."
    )
    CATEGORY = "JoVA"
    RETURN_TYPES = ("JOVA_CONDITIONING",)
    RETURN_NAMES = ("conditioning",)
    FUNCTION = "encode"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        texts = {name: ("STRING", {"default": "", "multiline": True, "tooltip": text}) for name, text in TEXTS.items()}
        return {
            "required": {"pipeline": ("JOVA_PIPELINE",), **texts},
            "optional": {
                "image": ("IMAGE", {"tooltip": "the first frame"}),
                "audio": ("AUDIO", {"tooltip": "a recording that the video is made to"}),
            },
        }

    @torch.no_grad()
    def encode(
        self,
        pipeline: LoadedPipeline,
        image: torch.Tensor | None = None,
        audio: dict[str, Any] | None = None,
        **texts: Any,
    ) -> tuple[Conditioning]:
        """Return the encoded texts and what is given.

        Args:
            image: ComfyUI's IMAGE, `(1, H, W, C)` in [0, 1].
            audio: ComfyUI's AUDIO: "waveform", `(1, C, N)` in [-1, 1], and "sample_rate", samples per second.
            texts: Strings, by the names in `TEXTS`.

        Raises:
            ValueError: If there are several images or recordings, or one cannot be used.
        """
        from ..pipelines.given_media import read_recordings

        for name, batch in (("image", image), ("audio", audio and audio["waveform"])):
            if batch is not None and len(batch) != 1:
                raise ValueError(f"`{name}` has a batch of {len(batch)}, and a clip takes one: choose one of them.")
        pixels = image[0, ..., :3].movedim(-1, 0) if image is not None else None
        recording = read_recordings(audio["waveform"], audio["sample_rate"]) if audio is not None else None
        pipe = pipeline.at_work()
        embeds = dict(zip(PROMPT_EMBEDS, pipe.encode_prompt(**texts)))
        pipe.maybe_free_model_hooks()
        return (Conditioning(embeds, pixels, recording),)


class Sample:
    """Makes the latents of a clip."""

    DESCRIPTION = "Makes the latents of the video and its audio from noise."
    CATEGORY = "JoVA"
    RETURN_TYPES = ("JOVA_LATENTS",)
    RETURN_NAMES = ("latents",)
    FUNCTION = "sample"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        seed = {"default": 0, "min": 0, "max": LARGEST_SEED, "control_after_generate": True, "tooltip": "of the noise"}
        numbers = {}
        for name, (kind, text) in NUMBERS.items():
            type_name, options = NUMBER_INPUTS[kind]
            size = SIZE if name in ("height", "width") else {}
            numbers[name] = (type_name, options | size | {"tooltip": f"{text}; {OWN}"})
        return {
            "required": {
                "pipeline": ("JOVA_PIPELINE",),
                "conditioning": ("JOVA_CONDITIONING",),
                "seed": ("INT", seed),
                **numbers,
            }
        }

    def sample(
        self, pipeline: LoadedPipeline, conditioning: Conditioning, seed: int, **numbers: float
    ) -> tuple[Latents]:
        """Return the latents of one clip; the same seed makes the same clip as in Python and on the command line.

        Args:
            numbers: By the names in `NUMBERS`; 0 leaves the choice to the checkpoint, or is off.

        Raises:
            ValueError: If something does not fit, as `JoVAPipeline` says it.
        """
        pipe = pipeline.with_loras()
        has_audio = pipe.audio_vae is not None  # a pipeline made of a Wan may have none
        with host.following_steps() as callback:
            output = pipe(
                **conditioning.embeds,
                **{name: number for name, number in numbers.items() if number},
                image=conditioning.image,
                audio=conditioning.recording,
                generator=torch.Generator().manual_seed(seed),
                modalities=MODALITIES if has_audio else ("video",),
                output_type="latent",
                callback_on_step_end=callback,
            )
        num_frames = (output.frames.shape[2] - 1) * pipe.vae_scale_factor_temporal + 1
        return (Latents(output.frames, output.audio, num_frames, output.frame_rate, conditioning.recording),)


class Decode:
    """Decodes the latents of a clip."""

    DESCRIPTION = "Decodes the latents into frames and audio. Connect all three to Create Video."
    CATEGORY = "JoVA"
    RETURN_TYPES = ("IMAGE", "AUDIO", "FLOAT")
    RETURN_NAMES = ("images", "audio", "fps")
    FUNCTION = "decode"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"pipeline": ("JOVA_PIPELINE",), "latents": ("JOVA_LATENTS",)}}

    @torch.no_grad()
    def decode(self, pipeline: LoadedPipeline, latents: Latents) -> tuple[torch.Tensor, dict[str, Any] | None, float]:
        """Return ComfyUI's IMAGE, `(num_frames, H, W, 3)` in [0, 1]; its AUDIO, "waveform" `(1, C, N)` in [-1, 1] and
        "sample_rate"; and the frames per second.

        Audio that was given comes back as it was, cut or padded; a pipeline that makes none gives None.
        """
        pipe = pipeline.at_work()
        frames = pipe.decode_latents(latents.latents, "pt")[0]
        audio = None
        if latents.audio_latents is not None:
            recording = latents.recording
            rate = pipe.audio_sampling_rate if recording is None else recording.sampling_rate
            num_samples = num_audio_samples(latents.num_frames, latents.frame_rate, rate)
            if recording is None:
                waveform = torch.as_tensor(pipe.decode_audio_latents(latents.audio_latents, num_samples, "pt"))[
                    :, None
                ]
            else:
                waveform = fit_audio(recording.samples, num_samples)
            audio = {"waveform": waveform.cpu(), "sample_rate": rate}
        pipe.maybe_free_model_hooks()
        return frames.movedim(1, -1).float().cpu(), audio, float(exact_frame_rate(latents.frame_rate))


NODE_CLASS_MAPPINGS = {
    "JoVALoadPipeline": LoadPipeline,
    "JoVALoadLora": LoadLora,
    "JoVAEncode": Encode,
    "JoVASample": Sample,
    "JoVADecode": Decode,
}

NODE_DISPLAY_NAME_MAPPINGS = {
    "JoVALoadPipeline": "Load JoVA Pipeline",
    "JoVALoadLora": "Load JoVA LoRA",
    "JoVAEncode": "JoVA Encode",
    "JoVASample": "JoVA Sample",
    "JoVADecode": "JoVA Decode",
}
