# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What is to be annotated, by which models, and what they are asked."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ...engines import ModelEngineConfig
from ...text import nearest


# The order of work. The paper's are the last two, then the first (section 3.3); words come first here, since a long
# film is split by them.
LEVELS = ("transcript", "video_caption", "audio_caption")
# The paper's models (section 3.3), by their names on the Hub.
MODELS = {
    "transcript": "openai/whisper-large-v3",
    "video_caption": "omni-research/Tarsier2-Recap-7b",
    "audio_caption": "nvidia/audio-flamingo-3-hf",
}
QUANTIZATIONS = ("nf4", "int8")
DTYPES = ("float32", "bfloat16", "float16")
PROMPTS = Path(__file__).with_name("prompts.yaml")


@dataclass(frozen=True)
class AnnotationConfig(ModelEngineConfig):
    """What `annotate` does; see also `ModelEngineConfig`, whose device "auto" divides a model among several GPUs.

    Attributes:
        data: folder of clips, or of rows of clips, as `preprocess` reads it.
        output_dir: folder of the annotated rows; an unfinished one is continued.
        levels: which of `LEVELS` to annotate.
        transcriber, video_captioner, audio_captioner: folder of a checkpoint of transformers, or its name on the Hub.
        prompts: YAML file of what the models are asked, see `read_prompts`; None for the one that comes along.
        language: that is spoken, "en"; None to let the transcriber find out, clip by clip.
        redo: levels of which texts that a model wrote are written anew.
        batch_size: clips, or windows of 30 s, that a model sees at a time.
        num_frames: most frames of a clip that the video captioner sees.
        max_pixels: most pixels of such a frame; larger ones are made smaller.
        max_new_tokens: length of a caption, in tokens.
        max_segment_s: longest run of words in `segments`, in seconds; preprocessing splits clips between them.
        quantization: "nf4" or "int8" (bitsandbytes); None to take the weights as they are.
        dtype: one of `DTYPES`; None for bfloat16 on a GPU and float32 elsewhere.
        num_workers: processes that read files; 0: none but this one, which a damaged clip may crash.
    """

    data: str
    output_dir: str
    levels: tuple[str, ...] = LEVELS
    transcriber: str = MODELS["transcript"]
    video_captioner: str = MODELS["video_caption"]
    audio_captioner: str = MODELS["audio_caption"]
    prompts: str | None = None
    language: str | None = None
    redo: tuple[str, ...] = ()
    batch_size: int = 4
    num_frames: int = 16
    max_pixels: int = 1280 * 720 // 2
    max_new_tokens: int = 256
    max_segment_s: float = 4.0
    quantization: str | None = None
    dtype: str | None = None
    num_workers: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        for flag in ("levels", "redo"):
            for level in getattr(self, flag):
                if level not in LEVELS:
                    raise ValueError(f"`--{flag}` takes {', '.join(LEVELS)}, got {level!r}{nearest(level, LEVELS)}")
        for flag in ("batch_size", "num_frames", "max_pixels", "max_new_tokens", "max_segment_s"):
            if not getattr(self, flag) > 0:
                raise ValueError(f"`--{flag}` must be more than 0, got {getattr(self, flag)}.")
        if self.num_workers < 0:
            raise ValueError(f"`--num_workers` must be 0 or more, got {self.num_workers}.")
        for flag, known in (("quantization", QUANTIZATIONS), ("dtype", DTYPES)):
            value = getattr(self, flag)
            if value is not None and value not in known:
                raise ValueError(f"`--{flag}` must be one of {', '.join(known)}, got {value!r}.")

    def model(self, level: str) -> str:
        """Return the checkpoint that annotates a level."""
        by_level = {
            "transcript": self.transcriber,
            "video_caption": self.video_captioner,
            "audio_caption": self.audio_captioner,
        }
        return by_level[level]


def read_prompts(path: str | os.PathLike | None = None) -> dict[str, str]:
    """Return what the model of each level is asked, by the names of `LEVELS`.

    Args:
        path: YAML file with any of these names; what it leaves out is asked as in the file that comes along.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not such a file; the message names it.
    """
    prompts = _read(PROMPTS)
    return prompts if path is None else prompts | _read(Path(path))


def _read(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of prompts `{path}`.")
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"`{path}` is not YAML in UTF-8: {' '.join(str(error).split())}.") from None
    if not isinstance(content, Mapping):
        raise ValueError(f"`{path}` must hold a text for each of {', '.join(LEVELS)}: `video_caption: Describe ...`.")
    for name, text in content.items():
        if name not in LEVELS:
            raise ValueError(f"`{path}` asks for `{name}`{nearest(name, LEVELS)} Allowed are {', '.join(LEVELS)}.")
        if not isinstance(text, str) or not (text.strip() or name == "transcript"):
            raise ValueError(f"`{name}` in `{path}` must be a text, got {text!r}.")
    return {name: " ".join(text.split()) for name, text in content.items()}
