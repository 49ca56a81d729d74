# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Training of a LoRA, and the proof of what it learned: `train_lora(config)`."""

import torch
from accelerate.utils.memory import clear_device_cache

from ..models.transformer_jova import JoVATransformer3DModel
from .accelerator import create_accelerator, is_sharded
from .adapters import add_lora, lora_update_norms, quantize_base, weight_dtype
from .checkpoint import find_checkpoint
from .config import LoraTrainingConfig
from .dataset import open_clips
from .initialization import check_condition, load_transformer
from .loop import training_loop
from .memory import check_plan, print_plan
from .model_card import describe, write_model_card
from .optimization import averaged
from .output_dir import own_output_dir, prepare_output_dir
from .proof import Proof, compare_with_base, count_changed, count_clips, hash_frozen, split_clips, write_proof
from .validation import load_decoders
from .validation_prompts import encode_validation_prompts
from .weights import save_weights


def train_lora(config: LoraTrainingConfig) -> None:
    """Train a LoRA from a cache and write it to `output_dir` with its proof. Called by all processes.

    Raises:
        ValueError, FileNotFoundError: If settings, folders, cache and model do not fit together.
        MemoryError: If the run does not fit into memory.
        InUseError: If another run is at work in `output_dir`.
    """
    with own_output_dir(config):
        # 1. Everything that can go wrong early: settings, folders, cache, memory
        checkpoint = find_checkpoint(config.output_dir, config.resume_from_checkpoint)
        clips, judged = split_clips(open_clips(config), config)
        check_condition(config, clips)
        accelerator = create_accelerator(config, clips)
        if config.dry_run:
            return print_plan(config, clips, accelerator)
        check_plan(config, clips, accelerator)
        prepare_output_dir(config, accelerator)

        # 2. Text encoders come and go before the transformer is loaded
        prompts = encode_validation_prompts(config, accelerator)
        transformer = load_base(config, accelerator.device)
        add_lora(transformer, config.lora_modalities, config.rank, config.alpha, config.seed)
        frozen = hash_frozen(transformer)

        # 3. The loop
        trained = training_loop(transformer, clips, config, accelerator, prompts, checkpoint)

        # 4. The result, averaged if there is an average
        with averaged(transformer, trained.ema):
            state_dict = accelerator.get_state_dict(trained.model) if is_sharded(accelerator) else None
            if accelerator.is_main_process:
                for path in save_weights(transformer, config, config.output_dir, state_dict):
                    print(f"Wrote {path}")
            updates = lora_update_norms(transformer)
        accelerator.end_training()
        if not accelerator.is_main_process:
            return

        # 5. What it learned: the run's own weights against the base, then the file in a base loaded anew
        num_changed, num_steps = count_changed(frozen, hash_frozen(transformer)), trained.step
        proof = Proof(updates, len(frozen), num_changed, count_clips(clips))
        del transformer, trained  # the two are never in memory together
        accelerator.free_memory()
        clear_device_cache(garbage_collection=True)
        base = load_base(config, accelerator.device).to(accelerator.device).eval()
        pipe = load_decoders(config, base, accelerator.device)
        with accelerator.autocast():
            compare_with_base(proof, pipe, prompts, judged, config, accelerator.device)
        print(describe(proof))
        write_proof(proof, config.output_dir)
        write_model_card(proof, clips, num_steps, config)


def load_base(config: LoraTrainingConfig, device: torch.device) -> JoVATransformer3DModel:
    """Return the transformer that a LoRA is put on, quantised if `base_quantization` says so."""
    transformer = load_transformer(config, weight_dtype(config))
    if config.base_quantization is not None:
        quantize_base(transformer, config.base_quantization, device)
    return transformer
