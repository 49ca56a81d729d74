# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Train a transformer from a cache: stage 1 one branch at a time, stage 2 both together.

    python training/train.py --branch video --model DIR --cache_dir cache/ --output_dir video/ --max_train_steps 80000
    python training/train.py --branch audio --init_audio_from_video --model DIR --cache_dir cache/ --output_dir audio/
    python training/train.py --branch joint --video_transformer video/ --audio_transformer audio/ \\
        --model DIR --cache_dir cache/ --output_dir out/ --max_train_steps 50000

Several GPUs: torchrun --nproc_per_node 8 training/train.py ..., or accelerate launch with a file of training/configs.
The result is output_dir/transformer: load it and pass it to JoVAPipeline.from_pretrained(DIR, transformer=...).
"""

from diffusers_jova.training.config import TrainingConfig, own_output_dir, run_script


def main(config: TrainingConfig) -> None:
    with own_output_dir(config):
        train(config)


def train(config: TrainingConfig) -> None:
    # imported late: they take seconds, and `--help` needs none of them
    from diffusers_jova.training.checkpoint import Checkpoints, find_checkpoint
    from diffusers_jova.training.dataset import CachedClips
    from diffusers_jova.training.initialization import load_transformer, read_scales
    from diffusers_jova.training.optimization import (
        averaged,
        check_finite,
        create_ema,
        create_lr_scheduler,
        create_optimizer,
        gradient_norms,
        trainable,
    )
    from diffusers_jova.training.setup import (
        create_accelerator,
        create_batches,
        encode_validation_prompts,
        plan_memory,
        prepare_output_dir,
        print_plan,
        save_transformer,
        validate_step,
    )
    from diffusers_jova.training.step import training_step
    from diffusers_jova.training.tracking import TrainingLog

    # 1. Everything that can go wrong early: settings, folders, cache, memory
    checkpoint = find_checkpoint(config.output_dir, config.resume_from_checkpoint)
    clips = CachedClips(
        config.cache_dir, config.branch, config.seed, config.caption_dropout, config.line_dropout, config.model
    )
    accelerator = create_accelerator(config, clips)
    estimate = plan_memory(config, clips, accelerator)
    if config.dry_run:
        return print_plan(config, clips, estimate, accelerator)
    prepare_output_dir(config, accelerator)

    # 2. Text encoders come and go before the transformer is loaded
    prompts = encode_validation_prompts(config, accelerator)
    transformer = load_transformer(config)
    if config.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    scales = read_scales(config.model, transformer.config)

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
        state_dict = accelerator.get_state_dict(model)
        if accelerator.is_main_process:
            print(f"Wrote {save_transformer(transformer, state_dict, config.output_dir)}")
    log.close()


if __name__ == "__main__":
    run_script(main, TrainingConfig, __doc__)
