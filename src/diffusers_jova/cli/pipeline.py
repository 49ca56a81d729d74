# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What the verbs that run a pipeline share: flags, and the pipeline that they ask for, loaded and on its device."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import reading_folder


if TYPE_CHECKING:  # they take seconds to import, which `--help` should not
    from ..faces import DlibFaceDetector
    from ..pipelines.pipeline_jova import JoVAPipeline
    from ..pipelines.pipeline_output import JoVAPipelineOutput


# Flags that go to the pipeline's call as they are; None leaves the choice to the checkpoint.
TEXTS = {
    "prompt": "what is seen, or three labelled lines",
    "audio_prompt": "what is heard, but for the words",
    "transcript": "the words that are spoken",
    "negative_prompt": "what should not be seen",
    "negative_audio_prompt": "what should not be heard",
}
NUMBERS = {
    "height": (int, "pixels, divisible by 16, on Wan2.2-TI2V-5B by 32"),
    "width": (int, "pixels, divisible by 16, on Wan2.2-TI2V-5B by 32"),
    "num_frames": (int, "frames, 4k + 1"),
    "frame_rate": (float, "frames per second"),
    "num_inference_steps": (int, "denoising steps"),
    "guidance_scale": (float, "how closely the video follows the prompt; 1 is off"),
    "audio_guidance_scale": (float, "the same for the audio; by default the same as guidance_scale, if that is given"),
    "modality_scale": (float, "how much further the video follows the audio; 1 is off"),
    "audio_modality_scale": (float, "how much further the audio follows the video; 1 is off"),
    "apg_norm_threshold": (float, "adaptive projected guidance for the video, with this largest norm (Waver: 27)"),
}


# Flags of how the pipeline is held, whatever it makes.
HOLDING = {
    "cpu_offload": "keep only the component at work on the GPU",
    "modulation_cache": "compute the blocks' modulation once for all steps, and keep its weights in main memory",
    "group_offload": "bring the transformer's blocks to the GPU one at a time, from main memory",
    "layerwise_casting": "keep the transformer's weights in float8, which rounds them: another clip",
    "vae_tiling": "decode the video in overlapping tiles",
}


def add_pipeline_arguments(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Add which pipeline, `default` if it is not given, and where it runs."""
    ending = f" (default: {default})" if default else ""
    parser.add_argument(
        "--model",
        required=default is None,
        default=default,
        help=f"jova-nano, a pipeline's folder, or its name on the Hub{ending}",
    )
    parser.add_argument("--device", help="cpu, cuda, mps ... (default: a GPU if there is one)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="(default: bfloat16 on a GPU)")


def add_text_arguments(parser: argparse.ArgumentParser, names: tuple[str, ...] = tuple(TEXTS)) -> None:
    """Add the texts of one clip, or some of them."""
    texts = parser.add_argument_group("texts")
    for name in names:
        texts.add_argument(f"--{name}", help=TEXTS[name])


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    """Add how clips are made, the same for all of them."""
    parser.add_argument(
        "--crop",
        choices=("face", "centre"),
        default="centre",
        help="which part of an image is kept; face, as in preprocessing, needs dlib (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default: %(default)s)")
    parser.add_argument("--lora", action="append", default=[], help="LoRA file or folder; may be given several times")
    parser.add_argument(
        "--lora_scale", type=float, action="append", default=[], help="strength of each --lora (default: 1.0)"
    )
    memory = add_memory_arguments(parser)
    memory.add_argument(
        "--batch_guidance",
        action="store_true",
        default=None,
        help="run a prompt and its negative as one batch: faster where a clip does not fill the GPU, and more memory",
    )
    numbers = parser.add_argument_group("size, length, steps and scales", "by default the checkpoint's own")
    for name, (kind, text) in NUMBERS.items():
        numbers.add_argument(f"--{name}", type=kind, help=text)


def add_memory_arguments(parser: argparse.ArgumentParser, names: tuple[str, ...] = tuple(HOLDING)) -> Any:
    """Add how the pipeline is held, or some of the ways, and return the group of these flags."""
    memory = parser.add_argument_group("memory and speed", "what fits on which card: docs/speed_and_memory.md")
    for name in names:
        memory.add_argument(f"--{name}", action="store_true", help=HOLDING[name])
    memory.add_argument(
        "--ignore_memory_estimate",
        action="store_true",
        help="load onto the GPU although the estimate exceeds its memory",
    )
    return memory


def given(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return the arguments of these names that the user gave."""
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def check_device(device: str | None) -> str:
    """Return the device, by default a GPU if there is one.

    Raises:
        ValueError: If torch cannot use it here.
    """
    import torch

    if device is None:
        return torch.accelerator.current_accelerator().type if torch.accelerator.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {device} cannot be used here: {str(error).splitlines()[0]}") from error
    return device


def device_of(args: argparse.Namespace) -> str:
    """Return the device of --device, on which the flags of `HOLDING` that are given make sense."""
    device = check_device(args.device)
    for name in ("cpu_offload", "group_offload"):
        if getattr(args, name) and device == "cpu":
            raise ValueError(f"--{name} needs a GPU to offload from.")
    if args.cpu_offload and args.group_offload:
        raise ValueError(
            "--cpu_offload and --group_offload exclude each other. The first needs all weights of one component at a "
            "time, the second less memory and more time: give one of them."
        )
    if args.layerwise_casting:
        import torch

        from ..machine import check_storage

        check_storage(torch.float8_e4m3fn, device)
    return device


def default_dtype(device: str) -> str:
    return "float32" if device == "cpu" else "bfloat16"


def check_model(model: str) -> str:
    """Return the folder of a pipeline that comes with us; a folder of the user, or a name on the Hub, as it is."""
    from ..pipeline_folder import find_model, read_pipeline_folder

    model = find_model(model)
    looks_like_path = model.startswith((".", "/", "~")) or model.endswith("/") or model.count("/") != 1
    is_dir = bool(model) and Path(model).is_dir()  # Path("") is where the user is
    if not is_dir and looks_like_path:
        raise FileNotFoundError(
            f"There is no folder {model!r}. Give a pipeline's folder (`create` makes one), jova-nano, which comes "
            "with the package, or a name on the Hub."
        )
    if is_dir:
        read_pipeline_folder(model).refuse_wan()
    return model


def load_pipeline(model: str, device: str, dtype: str | None, **components: Any) -> JoVAPipeline:
    """Return the pipeline in folder `model`, of that name on the Hub, or that comes with us, in main memory."""
    import torch

    from .. import JoVAPipeline

    model = check_model(model)
    dtype = getattr(torch, dtype or default_dtype(device))
    with reading_folder(model):
        return JoVAPipeline.from_pretrained(model, dtype=dtype, **components)


def loras_of(args: argparse.Namespace) -> list[tuple[str, float]]:
    """Return each --lora with its --lora_scale; they are looked for before the weights are read."""
    scales = args.lora_scale or [1.0]
    if args.lora_scale and (not args.lora or len(scales) not in (1, len(args.lora))):
        raise ValueError(f"Got {len(args.lora)} --lora and {len(scales)} --lora_scale: give one scale each.")
    for lora in args.lora:
        if Path(lora).suffix == ".safetensors" and not Path(lora).is_file():  # other names may be the Hub's
            raise FileNotFoundError(f"There is no LoRA file {lora!r}.")
    return list(zip(args.lora, scales * len(args.lora) if len(scales) == 1 else scales))


def prepare_pipeline(
    args: argparse.Namespace, device: str, loras: list[tuple[str, float]], **components: Any
) -> JoVAPipeline:
    """Return the pipeline, with its LoRAs, ready to be called on the device."""
    pipe = load_pipeline(args.model, device, args.dtype, **components)
    load_loras(pipe, loras)
    hold(pipe, args, device)
    return pipe


def load_loras(pipe: JoVAPipeline, loras: list[tuple[str, float]]) -> None:
    """Load the LoRAs of `loras_of` into a pipeline that has none, each at its strength."""
    names = [f"lora_{i}" for i in range(len(loras))]
    for name, (lora, _) in zip(names, loras):
        pipe.load_lora_weights(lora, adapter_name=name)
    if loras:
        pipe.set_adapters(names, [scale for _, scale in loras])


def hold(pipe: JoVAPipeline, args: argparse.Namespace, device: str) -> None:
    """Bring the pipeline to the device in the ways of `HOLDING`. What keeps weights away from it comes first."""
    import torch

    from ..pipelines.memory import DECODERS

    if args.modulation_cache:
        pipe.enable_modulation_cache()
    if args.layerwise_casting:
        pipe.transformer.enable_layerwise_casting(torch.float8_e4m3fn, pipe.transformer.dtype)
    if args.vae_tiling and pipe.vae is not None:
        pipe.vae.enable_tiling()
    if args.cpu_offload:
        pipe.enable_model_cpu_offload(device=device)
    elif args.group_offload:
        # the next block comes while one is at work, where the device has streams for it
        pipe.enable_group_offload(
            torch.device(device),
            num_blocks_per_group=1,
            use_stream=torch.device(device).type in ("cuda", "xpu"),
            exclude_modules=list(DECODERS),
        )
    else:
        pipe.to(device)


def find_face_detector(crop: str) -> DlibFaceDetector | None:
    """Return what finds the face for --crop face, which is looked for before the weights are read; else None."""
    if crop != "face":
        return None
    if importlib.util.find_spec("dlib") is None:
        raise ValueError("--crop face needs dlib: pip install 'diffusers-jova[faces]', or leave --crop out.")
    from ..faces import DlibFaceDetector, find_landmarks_file

    return DlibFaceDetector(find_landmarks_file())


def write_output(path: Path, output: JoVAPipelineOutput) -> None:
    """Write a pipeline's output of one sample: an mp4, or a wav where there are no frames."""
    from .. import media

    if output.frames is None:
        media.write_wav(path, output.audio[0], output.audio_sampling_rate)
        return
    audio = output.audio[0] if output.audio is not None else None
    media.write_video(path, output.frames[0], output.frame_rate, audio, output.audio_sampling_rate)
