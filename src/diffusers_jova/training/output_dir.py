# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The folder that a run writes to: no other run's while it works, and tidied up before it begins."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from accelerate import Accelerator

from ..files import check_output, lock_folder
from ..shards import who_writes
from .checkpoint import CONFIG_FILE, clean_up
from .config import TrainingConfig
from .flags import write_yaml


logger = logging.getLogger(__name__)

# where launchers say which of several processes this is; accelerate reads the same
RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")


@contextmanager
def own_output_dir(config: TrainingConfig) -> Iterator[None]:
    """Keep other runs out of `output_dir` until the block ends; of several processes the first one does so.

    Raises:
        ValueError: If `output_dir` is, lies in or holds what the run reads.
        InUseError: If another run is at work there.
    """
    check_output(
        config.output_dir,
        {
            "the folder of `model`": config.model,
            "the cache": config.cache_dir,
            "the folder of `video_transformer`": config.video_transformer,
            "the folder of `audio_transformer`": config.audio_transformer,
        },
    )
    rank = next((os.environ[name] for name in RANKS if name in os.environ), "0")
    with nullcontext() if config.dry_run or rank != "0" else lock_folder(config.output_dir):
        yield


def prepare_output_dir(config: TrainingConfig, accelerator: Accelerator) -> None:
    """Make the output folder, remove what a killed run left half written, and note the settings.

    Raises:
        OSError: If the folder cannot be made or written to.
    """
    if accelerator.is_main_process:
        folder = Path(config.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        clean_up(folder)
        write_yaml(config, folder / CONFIG_FILE)
        if holder := who_writes(config.cache_dir):
            logger.warning(
                f"Another run ({holder}) is writing the cache `{config.cache_dir}`: this one trains on what its index "
                "holds now."
            )
    accelerator.wait_for_everyone()
