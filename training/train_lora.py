# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Train a LoRA from a cache, and prove at the end what it learned.

    python training/train_lora.py --model DIR --cache_dir cache/ --output_dir lora/ --max_train_steps 1000 \\
        --rank 16 --alpha 16 --lora_modalities video,audio

The result is loaded by `pipe.load_lora_weights("lora/")`.
"""

from diffusers_jova.training.config import LoraTrainingConfig, own_output_dir, run_script


def main(config: LoraTrainingConfig) -> None:
    with own_output_dir(config):
        train(config)


def train(config: LoraTrainingConfig) -> None:
    # imported late: they take seconds, and `--help` needs none of them
    from pathlib import Path

    from diffusers_jova.files import whole_file
    from diffusers_jova.training.adapters import add_lora, lora_update_norms, save_lora
    from diffusers_jova.training.checkpoint import Checkpoints, find_checkpoint
    from diffusers_jova.training.dataset import CachedClips
    from diffusers_jova.training.initialization import read_scales
    from diffusers_jova.training.optimization import (
        averaged,
        check_finite,
        create_ema,
        create_lr_scheduler,
        create_optimizer,
        gradient_norms,
        trainable,
    )
    from diffusers_jova.training.proof import (
        Proof,
        compare_with_base,
        count_changed,
        count_clips,
        describe,
        hash_frozen,
        model_card,
        split_clips,
        write_proof,
    )
    from diffusers_jova.training.setup import (
        create_accelerator,
        create_batches,
        encode_validation_prompts,
        is_sharded,
        load_base,
        plan_memory,
        prepare_output_dir,
        print_plan,
        validate_step,
    )
    from diffusers_jova.training.step import training_step
    from diffusers_jova.training.tracking import TrainingLog
    from diffusers_jova.training.validation import free_memory, load_decoders

    # 1. Everything that can go wrong early: settings, folders, cache, memory
    checkpoint = find_checkpoint(config.output_dir, config.resume_from_checkpoint)
    clips = CachedClips(
        config.cache_dir, config.branch, config.seed, config.caption_dropout, config.line_dropout, config.model
    )
    clips, judged = split_clips(clips, config)
    accelerator = create_accelerator(config, clips)
    estimate = plan_memory(config, clips, accelerator)
    if config.dry_run:
        return print_plan(config, clips, estimate, accelerator)
    prepare_output_dir(config, accelerator)

    # 2. Text encoders come and go before the transformer is loaded
    prompts = encode_validation_prompts(config, accelerator)
    transformer = load_base(config, accelerator.device)
    add_lora(transformer, config.lora_modalities, config.rank, config.alpha, config.seed)
    if config.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    scales = read_scales(config.model, transformer.config)
    frozen = hash_frozen(transformer)

    optimizer = create_optimizer(trainable(transformer), config)
    lr_scheduler = create_lr_scheduler(optimizer, config)
    model, optimizer = accelerator.prepare(transformer, optimizer)
    ema = create_ema(transformer, config)
    checkpoints = Checkpoints(accelerator, transformer, lr_scheduler, ema, config, clips.digest())
    step = checkpoints.load(checkpoint) if checkpoint else 0
    batches = create_batches(clips, config, accelerator, step)
    log = TrainingLog(accelerator, config, step)
    validate_step(step, config, transformer, ema, prompts, accelerator, log, missing_only=True)

    # 3. The loop
    while step < config.max_train_steps:
        for _ in range(accelerator.gradient_accumulation_steps):
            batch = next(batches).to(accelerator.device)
            with accelerator.accumulate(model):
                output = training_step(model, batch, scales, config)
                check_finite(output.loss.item(), step + 1, batch.visits)
                accelerator.backward(output.loss)
                log.add(output)
                if accelerator.sync_gradients:
                    norms = gradient_norms(transformer, accelerator.scaler)
                    grad_norm = accelerator.clip_grad_norm_(trainable(model), config.max_grad_norm or float("inf"))
                optimizer.step()
                optimizer.zero_grad()
        learning_rate = lr_scheduler.get_last_lr()[0]
        lr_scheduler.step()
        if ema is not None:
            ema.step(trainable(transformer))
        step += 1
        log.write(step, learning_rate, norms, float(grad_norm))

        if step % config.checkpointing_steps == 0 or step == config.max_train_steps:
            checkpoints.save(step)
        validate_step(step, config, transformer, ema, prompts, accelerator, log)

    # 4. The result, averaged if there is an average
    with averaged(transformer, ema):
        state_dict = accelerator.get_state_dict(model) if is_sharded(accelerator) else None
        if accelerator.is_main_process:
            print(f"Wrote {save_lora(transformer, config.output_dir, state_dict)}")
        updates = lora_update_norms(transformer)
    log.close()
    if not accelerator.is_main_process:
        return

    # 5. What it learned: the run's own weights against the base, then the file in a base loaded anew
    num_changed = count_changed(frozen, hash_frozen(transformer))
    proof = Proof(updates, len(frozen), num_changed, count_clips(clips))
    del model, optimizer, checkpoints, transformer, ema
    accelerator.free_memory()
    free_memory()
    base = load_base(config, accelerator.device).to(accelerator.device).eval()
    pipe = load_decoders(config, base, accelerator.device)
    with accelerator.autocast():
        compare_with_base(proof, pipe, prompts, judged, scales, config, accelerator.device)
    print(describe(proof))
    write_proof(proof, config.output_dir)
    captions = dict.fromkeys(row.get("video_caption") or row.get("audio_caption") for row in clips.rows.values())
    card = model_card(config, proof, filter(None, list(captions)[:10]), step)
    with whole_file(Path(config.output_dir, "README.md"), "") as partial:
        partial.write_text(card, encoding="utf-8")


if __name__ == "__main__":
    run_script(main, LoraTrainingConfig, __doc__)
