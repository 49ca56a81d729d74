# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Time a call of JoVAPipeline, and what of it lies outside the models (aim: at most 2 %):

    python benchmarks/pipeline.py
    python benchmarks/pipeline.py --model jova-nano --num_frames 21 --num_inference_steps 30
    python benchmarks/pipeline.py --preset jova-3.2b --device cuda --dtype bfloat16 --height 480 --width 832 \\
        --num_frames 121 --frame_rate 24

Hooks time every call of the text encoders, transformer, VAEs and vocoder; the rest is the pipeline's own: tokenising,
noise, guidance, scheduler, post-processing. Without --model, weights are random. A large preset is a transformer of
that size in the nano pipeline, with text encoders of nano width and a sound of 16 kHz. Medians over runs after one
warm-up.
"""

import argparse
import platform
import statistics
import sys
import time
from collections import defaultdict

import torch
from PIL import Image

from diffusers_jova import JoVAPipeline
from diffusers_jova.command import run
from diffusers_jova.models.transformer_jova import PRESETS, JoVATransformer3DModel
from diffusers_jova.pipelines.random_pipeline import create_pipeline


PHASES = {
    "encode": ("encode_prompt", "prepare_condition"),
    "denoise": ("denoise",),
    "decode": ("decode_latents", "decode_audio_latents"),
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--preset", choices=sorted(PRESETS), default="jova-nano", help="size of the transformer")
    parser.add_argument("--model", help="a trained pipeline instead: jova-nano, its folder, or its name on the Hub")
    parser.add_argument("--device", default="cpu", help="cpu, cuda ...")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of all models")
    parser.add_argument("--height", type=int, default=64, help="pixels")
    parser.add_argument("--width", type=int, default=64, help="pixels")
    parser.add_argument("--num_frames", type=int, default=25, help="frames, 4k + 1")
    parser.add_argument("--frame_rate", type=float, default=12.5, help="frames per second")
    parser.add_argument("--num_inference_steps", type=int, default=20, help="denoising steps")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--num_runs", type=int, default=5, help="timed calls after one warm-up")
    return parser.parse_args()


class Stopwatch:
    """Seconds by name. On an accelerator every start and stop waits for the queue."""

    def __init__(self, device: str):
        self.device = torch.device(device)
        self.seconds = defaultdict(float)

    def now(self) -> float:
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        return time.perf_counter()

    def wrap(self, function, name: str):
        def timed(*args, **kwargs):
            start = self.now()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds[name] += self.now() - start

        return timed


def make_pipeline(args: argparse.Namespace):
    pipe = JoVAPipeline.from_pretrained(args.model) if args.model else create_pipeline()
    if args.preset != "jova-nano" and not args.model:
        nano = pipe.transformer.config
        texts = {name: nano[name] for name in ("text_embed_dim", "text_embed_dim_2")}
        sound = {name: nano[name] for name in ("audio_in_channels", "audio_latent_rate")}
        with torch.device(args.device):
            pipe.transformer = JoVATransformer3DModel(**(PRESETS[args.preset] | texts | sound)).eval()
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(args.device) if args.dtype == "float32" else pipe.to(args.device, getattr(torch, args.dtype))


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    pipe, watch = make_pipeline(args), Stopwatch(args.device)
    for name in ("text_encoder", "text_encoder_2", "transformer", "vocoder"):
        module = getattr(pipe, name)
        module.forward = watch.wrap(module.forward, name)
    for name in ("vae", "audio_vae"):
        module = getattr(pipe, name)
        module.encode, module.decode = watch.wrap(module.encode, name), watch.wrap(module.decode, name)
    models = ("text_encoder", "text_encoder_2", "transformer", "vae", "audio_vae", "vocoder")
    for phase, methods in PHASES.items():
        for method in methods:
            setattr(pipe, method, watch.wrap(getattr(pipe, method), phase))
    call = watch.wrap(pipe, "call")

    runs = []
    for _ in range(args.num_runs + 1):
        watch.seconds.clear()
        call(
            prompt="A woman with short hair looks into the camera.",
            audio_prompt="A calm voice.",
            transcript="three seven",
            image=Image.new("RGB", (args.width, args.height), "grey"),
            height=args.height,
            width=args.width,
            num_frames=args.num_frames,
            frame_rate=args.frame_rate,
            num_inference_steps=args.num_inference_steps,
            generator=torch.Generator().manual_seed(0),
            output_type="np",
        )
        seconds = dict(watch.seconds)
        seconds["outside the models"] = seconds["call"] - sum(seconds[name] for name in models)
        runs.append(seconds)
    runs = runs[1:]  # the first one warms up

    accelerator = torch.device(args.device).type
    name = torch.get_device_module(accelerator).get_device_name() if accelerator != "cpu" else platform.processor()
    size = f"{args.height} x {args.width}, {args.num_frames} frames at {args.frame_rate:g} frames/s"
    print(f"{args.model or args.preset}, {size}, ", end="")
    print(f"{args.num_inference_steps} steps, {args.dtype}, {args.device} {name} ({torch.get_num_threads()} threads)")
    print(f"{'':>20}  seconds  of the call")
    for row in ("call", "encode", "denoise", "decode", *models, "outside the models"):
        share = statistics.median(run[row] / run["call"] for run in runs)
        print(f"{row:>20}  {statistics.median(run[row] for run in runs):7.3f}  {share:8.2%}")


if __name__ == "__main__":
    sys.exit(run(main, parse_args()))
