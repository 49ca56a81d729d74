# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The examples that come with a checkpoint: `examples.jsonl` in its folder, a file of prompts as `bench` takes it."""

from pathlib import Path

from ..evaluation.prompt_file import read_prompts
from ..pipeline_folder import find_model


EXAMPLES = "examples.jsonl"


def read_examples(model: str) -> list[dict[str, str]]:
    """Return what the examples of a checkpoint fill in; nothing for one that has none.

    Args:
        model: A folder, a name on the Hub, or a checkpoint that comes with the package.

    Returns:
        For each example what there is of `prompt`, `audio_prompt`, `transcript` and `image`.

    Raises:
        ValueError: If the file is damaged.
    """
    path = checkpoint_folder(model) / EXAMPLES
    if not path.is_file():
        return []
    examples = []
    for prompt in read_prompts(path):
        image = str(prompt.image) if prompt.image is not None and prompt.image.is_file() else ""
        texts = {"prompt": prompt.prompt, "audio_prompt": prompt.audio_text, "transcript": prompt.speech_text}
        examples.append({name: value for name, value in (texts | {"image": image}).items() if value})
    return examples


def checkpoint_folder(model: str) -> Path:
    """Return the folder of a checkpoint; of one on the Hub with no more in it than its examples."""
    folder = Path(find_model(model))
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, allow_patterns=["examples*"]))
    except (HfHubHTTPError, LocalEntryNotFoundError):  # without a way to the Hub there are no examples
        return folder
