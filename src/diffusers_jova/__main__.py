# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Make talking videos from the command line.

    python -m diffusers_jova demo
    python -m diffusers_jova create --preset jova-nano --output nano/
    python -m diffusers_jova generate --model nano/ --prompt "A woman looks into the camera." \\
        --audio_prompt "A calm voice." --transcript "three seven" --image portrait.png --seed 0 --output out.mp4
    python -m diffusers_jova encode --model nano/ --prompt "A woman." --transcript "one" --output prompt.safetensors
    python -m diffusers_jova bench --model nano/ --prompts prompts.jsonl --output_dir clips/
    python -m diffusers_jova score clips/ --prompts prompts.jsonl --weights weights/ --out report.json
"""

import argparse
import importlib.util
import sys
import time
from pathlib import Path

from .command import run
from .evaluation import bench_command, score_command
from .files import check_output, reading_folder, whole_folder


# Arguments of `generate` that go to the pipeline's call as they are; None leaves the choice to the checkpoint.
TEXTS = ("prompt", "audio_prompt", "transcript", "negative_prompt", "negative_audio_prompt")
NUMBERS = {
    "height": (int, "pixels, divisible by 16"),
    "width": (int, "pixels, divisible by 16"),
    "num_frames": (int, "frames, 4k + 1"),
    "frame_rate": (float, "frames per second"),
    "num_inference_steps": (int, "denoising steps"),
    "guidance_scale": (float, "how closely the video follows the prompt; 1 is off"),
    "audio_guidance_scale": (float, "the same for the sound; by default as guidance_scale, if that is given"),
    "modality_scale": (float, "how much further the video follows the sound; 1 is off"),
    "audio_modality_scale": (float, "how much further the sound follows the video; 1 is off"),
    "apg_norm_threshold": (float, "adaptive projected guidance for the video, with this largest norm (Waver: 27)"),
}

DEMO = {
    "prompt": "A woman with long red hair, blue shirt, green wall.",
    "audio_prompt": "A clear female voice.",
    "transcript": "three seven one",
}


def parse_args(args: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m diffusers_jova", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)

    demo = verbs.add_parser("demo", help="make a clip with jova-nano, and listen to it")
    for name, text in DEMO.items():
        demo.add_argument(f"--{name}", default=text, help="(default: %(default)s)")
    demo.add_argument("--image", type=Path, help="reference picture, the first frame")
    demo.add_argument("--seed", type=int, default=0, help="of the noise (default: %(default)s)")
    demo.add_argument("--output", type=Path, default=Path("outputs/demo.mp4"), help="the clip (default: %(default)s)")
    demo.set_defaults(run=run_demo)

    create = verbs.add_parser("create", help="write a small pipeline with random weights")
    create.add_argument("--preset", default="jova-nano", help="which sizes (default: %(default)s)")
    create.add_argument("--output", type=Path, required=True, help="folder for the pipeline; must not exist yet")
    create.add_argument("--seed", type=int, default=0, help="of all weights (default: %(default)s)")
    create.set_defaults(run=run_create)

    generate = verbs.add_parser("generate", help="make a clip", formatter_class=argparse.RawDescriptionHelpFormatter)
    encode = verbs.add_parser("encode", help="encode a prompt once and keep it as a file")
    bench = verbs.add_parser(
        "bench",
        help="make a clip of each prompt in a file, to be scored",
        description=bench_command.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for verb in (generate, encode, bench):
        verb.add_argument("--model", required=True, help="jova-nano, a pipeline's folder, or its name on the Hub")
        if verb is not bench:
            verb.add_argument("--prompt", help="what is seen, or three labelled lines")
            verb.add_argument("--audio_prompt", help="what is heard, but for the words")
            verb.add_argument("--transcript", help="the words that are spoken")
        verb.add_argument("--negative_prompt", help="what should not be seen")
        verb.add_argument("--negative_audio_prompt", help="what should not be heard")
        verb.add_argument("--device", help="cpu, cuda, mps ... (default: a GPU if there is one)")
        verb.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="(default: bfloat16 on a GPU)")
    generate.add_argument("--prompt_embeds", type=Path, help="file written by `encode`, instead of the texts")
    generate.add_argument("--image", type=Path, help="reference picture, the first frame")
    for verb in (generate, bench):
        verb.add_argument(
            "--crop",
            choices=("face", "centre"),
            default="centre",
            help="what of a picture stays; face, as preprocessing cuts clips, needs dlib (default: %(default)s)",
        )
        verb.add_argument("--seed", type=int, default=0, help="of the noise (default: %(default)s)")
        verb.add_argument(
            "--lora", action="append", default=[], help="LoRA file or folder; may be given several times"
        )
        verb.add_argument(
            "--lora_scale", type=float, action="append", default=[], help="strength of each --lora (default: 1.0)"
        )
        verb.add_argument("--cpu_offload", action="store_true", help="keep on the GPU only the part that works")
        for name, (kind, text) in NUMBERS.items():
            verb.add_argument(f"--{name}", type=kind, help=f"{text} (default: the checkpoint's)")
    generate.add_argument(
        "--modalities", nargs="+", choices=("video", "audio"), default=["video", "audio"], help="one or both"
    )
    bench_command.add_arguments(bench)
    bench.set_defaults(run=run_bench)
    generate.add_argument("--output", type=Path, required=True, help="an .mp4, or a .wav for sound alone")
    generate.set_defaults(run=run_generate)
    encode.add_argument("--output", type=Path, required=True, help="a .safetensors file")
    encode.set_defaults(run=run_encode)

    score = verbs.add_parser(
        "score",
        help="measure a folder of any model's clips",
        description=score_command.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    score_command.add_arguments(score)
    score.set_defaults(run=lambda args: score_command.run(args, check_device))
    return parser.parse_args(args)


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


def default_dtype(device: str) -> str:
    return "float32" if device == "cpu" else "bfloat16"


def check_model(model: str) -> str:
    """Return the folder of a pipeline that comes with us; a folder of the user, or a name on the Hub, as it is."""
    from .shipped import find_model

    model = find_model(model)
    looks_like_path = model.startswith((".", "/", "~")) or model.endswith("/") or model.count("/") != 1
    if not Path(model).is_dir() and looks_like_path:
        raise FileNotFoundError(
            f"There is no folder {model!r}. Give a pipeline's folder (`create` makes one), jova-nano, which comes "
            "with the package, or a name on the Hub."
        )
    if Path(model).is_dir() and not (Path(model) / "model_index.json").is_file():
        raise FileNotFoundError(f"{model!r} is no pipeline's folder: it has no model_index.json.")
    return model


def load_pipeline(model: str, device: str, dtype: str | None, **components):
    """Return the pipeline in folder `model`, of that name on the Hub, or that comes with us, in main memory."""
    import torch

    from . import JoVAPipeline

    model = check_model(model)
    dtype = getattr(torch, dtype or default_dtype(device))
    with reading_folder(model):
        return JoVAPipeline.from_pretrained(model, dtype=dtype, **components)


def run_create(args: argparse.Namespace) -> None:
    if args.output.exists():
        raise FileExistsError(f"{str(args.output)!r} exists already: remove it, or choose another --output.")
    if not args.output.absolute().parent.is_dir():
        raise FileNotFoundError(f"The folder {str(args.output.absolute().parent)!r} does not exist: create it first.")
    from .pipelines.random_pipeline import create_pipeline  # late: it takes seconds

    with whole_folder(args.output) as folder:
        create_pipeline(args.preset, args.seed).save_pretrained(folder)
    print(f"Wrote {args.output}: a {args.preset} pipeline with random weights. What it makes is noise.")


def run_generate(args: argparse.Namespace) -> None:
    from . import media

    # everything that can be wrong is looked at before the weights are read
    suffixes = media.VIDEO_SUFFIXES if "video" in args.modalities else media.AUDIO_SUFFIXES
    media.check_output_path(args.output, suffixes)
    inputs = {"the --image": args.image, "the --prompt_embeds": args.prompt_embeds}
    check_output(args.output, inputs | {f"the --lora {lora}": lora for lora in args.lora if Path(lora).is_file()})
    loras = loras_of(args)
    image = media.load_image(args.image) if args.image is not None else None
    if args.crop == "face" and image is None:
        raise ValueError("--crop face is about the --image: give one, or leave --crop out.")
    detector = face_detector() if args.crop == "face" else None
    inputs = {name: getattr(args, name) for name in TEXTS if getattr(args, name) is not None}
    without = {}
    if args.prompt_embeds is not None:
        from .pipelines.prompts import load_prompt_embeds

        if inputs:
            raise ValueError(f"--prompt_embeds stands for all texts: leave out {', '.join(f'--{x}' for x in inputs)}.")
        inputs = load_prompt_embeds(args.prompt_embeds)
        without = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
    inputs |= {name: getattr(args, name) for name in NUMBERS if getattr(args, name) is not None}
    device = device_of(args)

    import torch

    pipe = prepare_pipeline(args, device, loras, **without)
    if detector is not None:
        from .training.faces import crop_to_face

        image = crop_to_face(image, args.height or pipe.config.height, args.width or pipe.config.width, detector)
    started = time.perf_counter()
    output = pipe(
        **inputs,
        image=image,
        modalities=tuple(args.modalities),
        generator=torch.Generator().manual_seed(args.seed),
        output_type="np",
    )
    write_output(args.output, output)
    print(f"Wrote {args.output} in {time.perf_counter() - started:.1f} s.")


def loras_of(args: argparse.Namespace) -> list[tuple[str, float]]:
    """Return each --lora with its --lora_scale; they are looked for before the weights are read."""
    scales = args.lora_scale or [1.0]
    if args.lora_scale and (not args.lora or len(scales) not in (1, len(args.lora))):
        raise ValueError(f"Got {len(args.lora)} --lora and {len(scales)} --lora_scale: give one scale each.")
    for lora in args.lora:
        if Path(lora).suffix == ".safetensors" and not Path(lora).is_file():  # other names may be the Hub's
            raise FileNotFoundError(f"There is no LoRA file {lora!r}.")
    return list(zip(args.lora, scales * len(args.lora) if len(scales) == 1 else scales))


def device_of(args: argparse.Namespace) -> str:
    device = check_device(args.device)
    if args.cpu_offload and device == "cpu":
        raise ValueError("--cpu_offload needs a GPU to offload from.")
    return device


def prepare_pipeline(args: argparse.Namespace, device: str, loras: list[tuple[str, float]], **components):
    """Return the pipeline, with its LoRAs, ready to be called on the device."""
    pipe = load_pipeline(args.model, device, args.dtype, **components)
    names = [f"lora_{i}" for i in range(len(loras))]
    for name, (lora, _) in zip(names, loras):
        pipe.load_lora_weights(lora, adapter_name=name)
    if loras:
        pipe.set_adapters(names, [scale for _, scale in loras])
    if args.cpu_offload:
        pipe.enable_model_cpu_offload(device=device)
    else:
        pipe.to(device)
    return pipe


def run_bench(args: argparse.Namespace) -> int:
    names = (*NUMBERS, "negative_prompt", "negative_audio_prompt")
    call = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    args.model = check_model(args.model)
    loras, device = loras_of(args), device_of(args)
    args.dtype = args.dtype or default_dtype(device)
    detector = face_detector() if args.crop == "face" else None
    return bench_command.run(args, call, loras, detector, lambda: prepare_pipeline(args, device, loras))


def face_detector():
    """Return what finds the face for --crop face; it is looked for before the weights are read."""
    if importlib.util.find_spec("dlib") is None:
        raise ValueError("--crop face needs dlib: pip install 'diffusers-jova[faces]', or leave --crop out.")
    from .training.faces import DlibFaceDetector, find_landmarks_file

    return DlibFaceDetector(find_landmarks_file())


def write_output(path: Path, output) -> None:
    """Write a pipeline's output of one sample: an mp4, or a wav where there are no frames."""
    from . import media

    if output.frames is None:
        media.write_wav(path, output.audio[0], output.audio_sampling_rate)
        return
    audio = output.audio[0] if output.audio is not None else None
    media.write_video(path, output.frames[0], output.frame_rate, audio, output.audio_sampling_rate)


def run_encode(args: argparse.Namespace) -> None:
    from . import media
    from .pipelines.prompts import format_prompt, save_prompt_embeds

    media.check_output_path(args.output, (".safetensors",))
    check_is_prompt_embeds(args.output)
    texts = {name: getattr(args, name) for name in TEXTS}
    if not any(texts[name] for name in ("prompt", "audio_prompt", "transcript")):
        raise ValueError("There is nothing to encode: give --prompt, --audio_prompt or --transcript.")
    format_prompt(args.prompt, args.audio_prompt, args.transcript)
    device = check_device(args.device)

    import torch

    without = dict.fromkeys(("transformer", "vae", "audio_vae", "vocoder"))
    pipe = load_pipeline(args.model, device, args.dtype, **without)
    with torch.no_grad():
        save_prompt_embeds(args.output, pipe.to(device).encode_prompt(**texts))
    print(f"Wrote {args.output}.")


def check_is_prompt_embeds(path: Path) -> None:
    """Raise ValueError if there is a file at `path` that `encode` did not write: it may be a model's weights."""
    from .headers import read_header
    from .pipelines.prompts import PROMPT_EMBEDS

    if not path.exists():
        return
    try:
        names = set(read_header(path)[0])
    except ValueError:
        names = set()
    if not names or not names <= set(PROMPT_EMBEDS):
        raise ValueError(
            f"`{path}` exists and is not an encoded prompt, so it is not written over: choose another --output, or "
            "remove it first."
        )


def run_demo(args: argparse.Namespace) -> None:
    from . import media

    started = time.perf_counter()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    media.check_output_path(args.output)
    check_output(args.output, {"the --image": args.image})
    inputs = {name: getattr(args, name) for name in DEMO}
    inputs["image"] = media.load_image(args.image) if args.image is not None else None
    import torch

    device = check_device(None)
    pipe = load_pipeline("jova-nano", device, None).to(device)
    print("\n".join(f"{name}: {text}" for name, text in inputs.items() if text is not None))
    output = pipe(**inputs, generator=torch.Generator().manual_seed(args.seed), output_type="np")
    write_output(args.output, output)
    num_frames, height, width, _ = output.frames[0].shape
    print(
        f"Wrote {args.output}: {num_frames} frames of {width} x {height} at {output.frame_rate:g} frames/s with sound "
        f"at {output.audio_sampling_rate} Hz, in {time.perf_counter() - started:.1f} s."
    )
    if importlib.util.find_spec("pocketsphinx") is not None:
        from .evaluation.words import WordListener
        from .nano.speech import DIGITS

        print(f"pocketsphinx, which knows the ten digits, hears: {WordListener(DIGITS).hear(output.audio[0])}")
    print(f"Watch it in any player, e.g. `ffplay {args.output}`, or open it in a browser.")


def main(args: list[str] | None = None) -> int:
    args = parse_args(args)
    return run(args.run, args)


if __name__ == "__main__":
    sys.exit(main())
