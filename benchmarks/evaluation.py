# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Time each network of `score` on one clip, and decoding, in CPU seconds:

python benchmarks/evaluation.py --threads 1

The networks have their published sizes and random weights. Slow ones look at few frames; their time for the whole clip
is scaled from that.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import (
    ClapAudioConfig,
    ClapConfig,
    ClapModel,
    ClapTextConfig,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    WhisperConfig,
    WhisperForConditionalGeneration,
)
from transformers.audio_utils import mel_filter_bank

from diffusers_jova.command import run
from diffusers_jova.evaluation.aesthetics import AestheticHead, AestheticPredictor
from diffusers_jova.evaluation.audiobox import AXES, AudioBox
from diffusers_jova.evaluation.clap import Clap
from diffusers_jova.evaluation.clips import Decoded, DecodeRequest, Subject, decode
from diffusers_jova.evaluation.cnn14 import Cnn14
from diffusers_jova.evaluation.dinov3 import Dino
from diffusers_jova.evaluation.maniqa import MANIQA
from diffusers_jova.evaluation.musiq import MUSIQ
from diffusers_jova.evaluation.passes import Pass, features
from diffusers_jova.evaluation.passt import PaSST
from diffusers_jova.evaluation.plans import make_plans
from diffusers_jova.evaluation.prompt_file import Prompt
from diffusers_jova.evaluation.raft import RAFT
from diffusers_jova.evaluation.s3fd import S3FD
from diffusers_jova.evaluation.syncnet import SyncNet
from diffusers_jova.media import write_video


FRAME_RATE, SAMPLING_RATE = 25, 16000
NUM_TOKENS = 20  # that Whisper writes for a clip of 4 s
VARIANTS = {
    **{"LSE": "s3fd50", "CS": "verse", "KL": "passt-verse", "IS": "panns-mova", "AudioBox": "audiobox"},
    **{"MS": "verse", "AS": "verse", "ID": "patch"},
}


@dataclass(frozen=True)
class Timed:
    """A pass to time.

    Attributes:
        build: returns its network.
        num_frames: of the clip that it looks at; None for all, or for audio.
        per_pair: whether its work is per pair of neighbouring frames.
    """

    build: Callable[[], Any]
    num_frames: int | None = None
    per_pair: bool = False


def build_clap() -> Clap:
    audio = ClapAudioConfig(enable_fusion=True)  # HTSAT-tiny
    config = ClapConfig(text_config=ClapTextConfig().to_dict(), audio_config=audio.to_dict())
    return Clap(ClapModel(config), torch.from_numpy(mel_filter_bank(513, 64, 50, 14000, 48000, mel_scale="htk")))


def build_audiobox() -> AudioBox:
    heads = {axis: nn.Linear(768, 1) for axis in AXES}
    return AudioBox(heads, True, True, {axis: {"mean": 0.0, "std": 1.0} for axis in AXES})


def build_dino() -> Dino:
    config = DINOv3ViTConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, num_register_tokens=4
    )
    return Dino(DINOv3ViTModel(config))


def build_aesthetic() -> AestheticPredictor:
    config = SiglipVisionConfig(
        hidden_size=1152, intermediate_size=4304, num_hidden_layers=27, num_attention_heads=16, image_size=384,
        patch_size=14,
    )  # fmt: skip
    return AestheticPredictor(SiglipVisionModel(config), AestheticHead())


def build_whisper() -> WhisperForConditionalGeneration:
    config = WhisperConfig(
        vocab_size=51866, d_model=1280, encoder_layers=32, decoder_layers=32, encoder_attention_heads=20,
        decoder_attention_heads=20, encoder_ffn_dim=5120, decoder_ffn_dim=5120, num_mel_bins=128,
    )  # fmt: skip
    return WhisperForConditionalGeneration(config)


TIMED = {
    "faces-s3fd": Timed(S3FD, 10),
    "lips-s3fd50": Timed(SyncNet),
    "clap-audio-verse": Timed(build_clap),
    "passt-verse": Timed(PaSST),
    "panns-mova": Timed(lambda: Cnn14(32000)),
    "audiobox": Timed(build_audiobox),
    "motion-verse": Timed(RAFT, 4, per_pair=True),
    "aesthetic": Timed(build_aesthetic, 2),
    "musiq": Timed(MUSIQ, 4),
    "maniqa-verse": Timed(MANIQA, 1),
    "identity": Timed(build_dino, 8),
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="length of the clip")
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=832)
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--only", nargs="*", help=f"some of: {', '.join([*TIMED, 'words-whisper'])}")
    return parser.parse_args()


def write_clip(path: Path, args: argparse.Namespace) -> int:
    """Write a clip of moving blocks with a tone in noise, and return its number of frames."""
    random = np.random.default_rng(0)
    num_frames = round(args.seconds * FRAME_RATE)
    wall = random.integers(0, 256, (args.height // 16, args.width // 16, 3), np.uint8).repeat(16, 0).repeat(16, 1)
    frames = np.stack([np.roll(wall, 3 * index, axis=1) for index in range(num_frames)])
    times = np.arange(round(args.seconds * SAMPLING_RATE)) / SAMPLING_RATE
    audio = 0.2 * np.sin(2 * np.pi * 220 * times) + 0.05 * random.standard_normal(len(times))
    write_video(path, frames, FRAME_RATE, audio.astype(np.float32), SAMPLING_RATE)
    return num_frames


def seconds_of(call: Callable[[], Any]) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


def time_pass(each: Pass, timed: Timed, decoded: Decoded, prompt: Prompt) -> tuple[float, int]:
    """Return the seconds that a pass takes for the whole clip, and on how many frames that was measured."""
    network = timed.build()
    if isinstance(network, nn.Module):
        network.eval().requires_grad_(False)
    total = decoded.shape[0]
    num_frames = min(timed.num_frames or total, total)
    clip = Subject(prompt, replace(decoded, shape=(num_frames, *decoded.shape[1:])))
    size = decoded.shape[1] * 0.5
    boxes = np.array([[20.0, 20.0, 20.0 + size, 20.0 + size]] * num_frames)
    found = {"faces-s3fd": features(boxes=boxes, counts=[1] * num_frames)}
    seconds = seconds_of(lambda: each.run(network, clip, found))
    pairs = int(timed.per_pair)
    return seconds * (total - pairs) / (num_frames - pairs), num_frames


def time_whisper() -> float:
    model = build_whisper().eval().requires_grad_(False)

    def hear() -> None:
        encoded = model.get_encoder()(torch.zeros(1, 128, 3000))
        tokens, past = torch.full((1, 4), 50258), None
        for _ in range(NUM_TOKENS):
            output = model(decoder_input_ids=tokens, encoder_outputs=encoded, past_key_values=past, use_cache=True)
            tokens, past = output.logits[:, -1:].argmax(dim=-1), output.past_key_values

    return seconds_of(hear)


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    passes = {each.name: each for plan in make_plans(VARIANTS) for each in plan.all_passes}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        total = write_clip(path, args)
        request = DecodeRequest(Path(folder) / "decoded", path, path, 1 << 33)
        started = time.process_time()
        decoded = decode(request)
        rows.append(("decoding", time.process_time() - started, f"{total} frames"))
        prompt = Prompt("clip", audio_prompt=("A tone.",), image=Path(folder) / "picture.png")
        write_picture(decoded, prompt.image)
        for name, timed in TIMED.items():
            if args.only and name not in args.only:
                continue
            seconds, num_frames = time_pass(passes[name], timed, decoded, prompt)
            on = f"{num_frames} frames" if "frames" in passes[name].reads else "audio"
            rows.append((f"{name} ({passes[name].network.name})", seconds, on))
            print(f"{name}: {seconds:.1f} s", flush=True)
        if not args.only or "words-whisper" in args.only:
            rows.append((f"words-whisper (Whisper-large-v3, {NUM_TOKENS} tokens)", time_whisper(), "audio"))
    all_seconds = sum(seconds for _, seconds, _ in rows)
    print(f"\n{args.seconds:g} s, {args.width} x {args.height}, {total} frames; {args.threads} thread(s)\n")
    print("| pass | CPU seconds per clip | share | measured on |\n|---|---|---|---|")
    for name, seconds, on in rows:
        print(f"| {name} | {seconds:.2f} | {100 * seconds / all_seconds:.2f} % | {on} |")
    print(f"| all | {all_seconds:.0f} | | |")


def write_picture(decoded: Decoded, path: Path) -> None:
    from PIL import Image

    frame = np.memmap(decoded.folder / "frames", np.uint8, "r", shape=decoded.shape)[0]
    Image.fromarray(frame).save(path)


if __name__ == "__main__":
    sys.exit(run(main, parse_args()))
