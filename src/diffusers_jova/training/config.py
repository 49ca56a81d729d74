# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Settings of a training run, one frozen dataclass; `flags` fills it from a YAML file and from flags."""

import math
from dataclasses import MISSING, dataclass
from typing import Any

from ..pipeline_folder import find_model
from ..text import nearest
from .flags import convert_settings, setting


BRANCHES = ("video", "audio", "joint")
SIGMA_SAMPLINGS = ("uniform", "logit_normal", "mode")
MOUTH_LOSS_REDUCTIONS = ("mask", "all")
MIXED_PRECISIONS = ("no", "bf16", "fp16")
LR_SCHEDULERS = ("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial")
TRACKERS = ("tensorboard", "wandb", "none")
TASKS = ("t2av", "a2v", "v2a", "continuation")
BASE_QUANTIZATIONS = ("nf4", "int8")

MOUTH_LOSS_WEIGHT = 5.0  # lambda, Table 3


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of `train.train`. Each field is a flag and a YAML key of the same name, with its help beside it.

    Raises:
        ValueError: If values do not fit, alone or together.
    """

    # 1. Where
    model: str = setting(MISSING, "folder of a pipeline, the model to start from")
    cache_dir: str = setting(MISSING, "folder written by `diffusers-jova preprocess`")
    output_dir: str = setting(MISSING, "folder for checkpoints, logs and the result")

    # 2. What
    branch: str = setting("joint", "which branches learn: stage 1 trains one, stage 2 both", BRANCHES)
    video_transformer: str | None = setting(None, "folder of the transformer whose video branch to start from")
    audio_transformer: str | None = setting(None, "folder of the transformer whose audio branch to start from")
    init_audio_from_video: bool = setting(False, "start the audio branch as a copy of the video branch")
    video_lora_rank: int | None = setting(
        None, "of both branches: train the audio's weights, and of the video a LoRA of this rank, not its own weights"
    )
    freeze_video: bool = setting(False, "of both branches: train the audio's weights, and nothing of the video")

    # 3. How long, how fast
    max_train_steps: int = setting(1000, "optimizer steps")
    train_batch_size: int = setting(1, "clips that each process computes at a time")
    gradient_accumulation_steps: int = setting(1, "batches per optimizer step")
    global_batch_size: int | None = setting(
        None, "clips per optimizer step over all processes; sets gradient_accumulation_steps"
    )
    num_processes: int | None = setting(None, "refuse to run with another number of processes than this")
    learning_rate: float = setting(1e-4, "highest learning rate")
    lr_scheduler: str = setting("constant", "course of the learning rate", LR_SCHEDULERS)
    lr_warmup_steps: int = setting(0, "optimizer steps until the highest learning rate")
    adam_beta1: float = setting(0.9, "decay of AdamW's first moment")
    adam_beta2: float = setting(0.999, "decay of AdamW's second moment")
    adam_epsilon: float = setting(1e-8, "epsilon of AdamW")
    weight_decay: float = setting(1e-2, "weight decay of AdamW")
    use_8bit_adam: bool = setting(False, "keep AdamW's moments in 8 bits (needs bitsandbytes)")
    max_grad_norm: float = setting(1.0, "longer gradients are shortened to this norm; 0 leaves them")
    mixed_precision: str = setting("no", "number format of the forward pass", MIXED_PRECISIONS)
    gradient_checkpointing: bool = setting(False, "recompute activations instead of keeping them")
    use_ema: bool = setting(False, "keep an exponential moving average of the weights; it becomes the result")
    ema_decay: float = setting(0.9999, "how much of the average stays at each step")
    dataloader_num_workers: int = setting(0, "processes that read the cache ahead")
    seed: int = setting(0, "of data order, noise, noise levels, dropouts and new weights")

    # 4. Noise levels and losses
    sigma_sampling: str = setting("uniform", "density of the noise levels", SIGMA_SAMPLINGS)
    logit_mean: float = setting(0.0, "mean of logit_normal; above 0 favours noise")
    logit_std: float = setting(1.0, "standard deviation of logit_normal")
    mode_scale: float = setting(1.29, "scale of mode (Waver: 1.29)")
    sigma_shift: float = setting(1.0, "shift of the noise levels after sampling (Waver's video: 3); 1 is none")
    audio_sigma_shift: float | None = setting(
        None, "shift of the audio's own noise levels, with --independent_timesteps; by default as sigma_shift"
    )
    independent_timesteps: bool = setting(False, "draw a noise level for each modality instead of one for both")
    task_probabilities: dict | None = setting(
        None,
        f"how often a clip is asked for which task ({', '.join(TASKS)}), as t2av=0.6 a2v=0.4; by default t2av always",
    )
    video_loss_weight: float = setting(1.0, "weight of the video loss")
    audio_loss_weight: float = setting(1.0, "weight of the audio loss")
    mouth_loss_weight: float | None = setting(
        None, f"lambda of Eq. 6; by default {MOUTH_LOSS_WEIGHT:g} for both branches together and 0 for one alone"
    )
    mouth_loss_reduction: str = setting(
        "mask",
        "mouth error is averaged over the mouth's cells, or summed there and divided by all cells",
        MOUTH_LOSS_REDUCTIONS,
    )

    # 5. What is left out now and then
    caption_dropout: float = setting(0.1, "probability of the unconditional prompt instead of the caption")
    line_dropout: float = setting(0.0, "probability of each of the prompt's lines to be left empty")
    image_conditioning_probability: float = setting(0.2, "probability that the first frame is given (Waver: 0.2)")
    cross_modal_dropout: float = setting(
        0.0, "probability that video and audio of a batch do not see each other, for modality_scale in a call"
    )

    # 6. Checkpoints, validation, logs
    checkpointing_steps: int = setting(500, "optimizer steps between checkpoints")
    checkpoints_total_limit: int | None = setting(3, "how many checkpoints to keep; none keeps all")
    resume_from_checkpoint: str | None = setting(None, "'latest', or a folder checkpoint-N")
    validation_prompts: tuple = setting(
        (), "texts, or a .jsonl or .yaml file of arguments of the pipeline's call; clips are made of them"
    )
    validation_steps: int = setting(500, "optimizer steps between validations")
    validation_seed: int = setting(0, "of the noise of all validations")
    report_to: str = setting("tensorboard", "tracker of the losses; metrics.jsonl is always written", TRACKERS)
    logging_steps: int = setting(1, "optimizer steps between log lines")

    # 7. Memory
    dry_run: bool = setting(False, "print the estimate of memory and stop")
    ignore_memory_estimate: bool = setting(False, "start although the estimate exceeds the free memory")

    def __post_init__(self):
        convert_settings(self)
        object.__setattr__(self, "model", find_model(self.model))
        if self.mouth_loss_weight is None:
            weight = MOUTH_LOSS_WEIGHT if self.branch == "joint" else 0.0
            object.__setattr__(self, "mouth_loss_weight", weight)
        check_ranges(self)
        check_tasks(self.task_probabilities)
        check_combinations(self)

    @property
    def tasks(self) -> dict[str, float]:
        """The tasks that occur, with their probabilities."""
        probabilities: dict[str, Any] = self.task_probabilities or {"t2av": 1.0}
        return {task: float(probabilities[task]) for task in TASKS if probabilities.get(task)}

    @property
    def keeps_video(self) -> bool:
        """Whether the video branch's own weights stay as they are while the audio's learn beside them."""
        return self.freeze_video or self.video_lora_rank is not None


@dataclass(frozen=True)
class LoraTrainingConfig(TrainingConfig):
    """Settings of `train_lora.train_lora`: those of `TrainingConfig`, and the adapter's."""

    rank: int = setting(16, "rank of the LoRA layers")
    alpha: float | None = setting(None, "strength of the LoRA layers is alpha / rank; by default 1")
    lora_modalities: str = setting(
        "video,audio", "video, audio, text, several with commas; or a regular expression that finds layers by path"
    )
    base_quantization: str | None = setting(
        None, "number format of the frozen weights (needs bitsandbytes)", BASE_QUANTIZATIONS
    )
    num_held_out: int = setting(
        0, "clips that training does not see, by which the proof judges base and LoRA; 0 judges by clips trained on"
    )
    num_proof_samples: int = setting(4, "samples of base and of LoRA that the proof makes, with the same noise")
    lora_name: str | None = setting(None, "title of the model card; by default the output folder's name")

    def __post_init__(self):
        super().__post_init__()
        if self.keeps_video:
            raise ValueError(
                "`train-lora` trains a LoRA and no weights: leave out `video_lora_rank` and `freeze_video`, and "
                "choose its layers by `lora_modalities`; or use `train`."
            )
        if self.alpha is None:
            object.__setattr__(self, "alpha", float(self.rank))
        if self.rank < 1:
            raise ValueError(f"`rank` must be at least 1, got {self.rank}: a LoRA of rank 0 cannot learn anything.")
        if self.num_held_out < 0 or self.num_proof_samples < 1:
            raise ValueError(
                f"`num_held_out` must be at least 0 and `num_proof_samples` at least 1, got {self.num_held_out} and "
                f"{self.num_proof_samples}."
            )
        if self.alpha <= 0:
            raise ValueError(f"`alpha` must be positive, got {self.alpha:g}: the LoRA's strength is alpha / rank.")


def check_ranges(config: TrainingConfig) -> None:
    """Raise ValueError for a number outside its range."""
    at_least = {
        **dict.fromkeys(("max_train_steps", "train_batch_size", "gradient_accumulation_steps"), 1),
        **dict.fromkeys(("global_batch_size", "num_processes", "checkpoints_total_limit", "video_lora_rank"), 1),
        **dict.fromkeys(("checkpointing_steps", "validation_steps", "logging_steps"), 1),
        **dict.fromkeys(("lr_warmup_steps", "dataloader_num_workers", "seed", "validation_seed"), 0),
        **dict.fromkeys(("max_grad_norm", "weight_decay"), 0),
        **dict.fromkeys(("video_loss_weight", "audio_loss_weight", "mouth_loss_weight"), 0),
    }
    for name, least in at_least.items():
        value = getattr(config, name)
        if value is not None and not value >= least:
            raise ValueError(f"`{name}` must be at least {least}, got {value}.")
    for name in ("learning_rate", "sigma_shift", "audio_sigma_shift", "logit_std", "adam_epsilon"):
        value = getattr(config, name)
        if value is not None and not value > 0:
            raise ValueError(f"`{name}` must be positive, got {value}.")
    probabilities = ("caption_dropout", "line_dropout", "image_conditioning_probability", "cross_modal_dropout")
    for name in (*probabilities, "ema_decay", "adam_beta1", "adam_beta2"):
        value = getattr(config, name)
        if not 0 <= value <= 1:
            raise ValueError(f"`{name}` must be between 0 and 1, got {value}.")


def check_tasks(probabilities: dict | None) -> None:
    """Raise ValueError unless these are probabilities of tasks that there are."""
    if probabilities is None:
        return
    for task, value in probabilities.items():
        if task not in TASKS:
            raise ValueError(
                f"`task_probabilities` has the unknown task {task!r}{nearest(str(task), TASKS)} Allowed are "
                f"{', '.join(TASKS)}."
            )
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise ValueError(f"`task_probabilities` must be numbers between 0 and 1, got {value!r} for {task}.")
    total = math.fsum(probabilities.values())
    if abs(total - 1) > 1e-6:
        raise ValueError(
            f"`task_probabilities` must sum to 1, got {total:g}. Name every task that shall occur, also "
            "t2av, the plain one."
        )


def check_combinations(config: TrainingConfig) -> None:
    """Raise ValueError for values that exclude each other."""
    others = [task for task in config.tasks if task != "t2av"]
    if config.branch != "joint" and others:
        raise ValueError(
            f"`task_probabilities` has {', '.join(others)}, which need both branches (`branch: joint`), got "
            f"{config.branch!r}: stage 1 trains on t2av alone."
        )
    if config.branch != "joint" and config.mouth_loss_weight:
        raise ValueError(
            f"`mouth_loss_weight` is {config.mouth_loss_weight:g}, but stage 1 (`branch: {config.branch}`) trains on "
            "Eq. 2 or Eq. 3 alone: leave it out, or set it to 0."
        )
    if config.branch != "joint" and config.cross_modal_dropout:
        raise ValueError(
            f"`cross_modal_dropout` needs both branches (`branch: joint`), got {config.branch!r}: one alone sees no "
            "other."
        )
    if config.branch != "joint" and config.independent_timesteps:
        raise ValueError(f"`independent_timesteps` needs both branches (`branch: joint`), got {config.branch!r}.")
    if config.audio_sigma_shift is not None and not config.independent_timesteps:
        raise ValueError(
            "`audio_sigma_shift` needs `independent_timesteps`: without it, both modalities share one noise level."
        )
    if config.branch == "video" and (config.audio_transformer or config.init_audio_from_video):
        raise ValueError(
            "`branch: video` has no use for `audio_transformer` and `init_audio_from_video`: leave them out."
        )
    if config.branch == "audio" and config.video_transformer and not config.init_audio_from_video:
        raise ValueError(
            "`branch: audio` uses `video_transformer` only with `init_audio_from_video`: add it, or leave this out."
        )
    if config.branch != "joint" and config.keeps_video:
        name = "freeze_video" if config.freeze_video else "video_lora_rank"
        raise ValueError(
            f"`{name}` needs both branches (`branch: joint`), got {config.branch!r}: stage 1 trains one branch alone."
        )
    if config.freeze_video and config.video_lora_rank is not None:
        raise ValueError("`freeze_video` and `video_lora_rank` exclude each other: choose one.")
    if config.audio_transformer and config.init_audio_from_video:
        raise ValueError("`audio_transformer` and `init_audio_from_video` exclude each other: choose one.")
    if config.global_batch_size is not None and config.gradient_accumulation_steps != 1:
        raise ValueError("`global_batch_size` sets `gradient_accumulation_steps`: give one of the two.")


def accumulation_steps(config: TrainingConfig, num_processes: int) -> int:
    """Return how many batches make an optimizer step, from `global_batch_size` if that is given.

    Raises:
        ValueError: If `global_batch_size` cannot be shared evenly, or the number of processes is not `num_processes`.
    """
    if config.num_processes not in (None, num_processes):
        raise ValueError(
            f"This run has {num_processes} process(es), but `num_processes` asks for {config.num_processes}. Launch "
            f"it with torchrun --nproc_per_node {config.num_processes}; on CPU set ACCELERATE_USE_CPU=true too "
            "(`accelerate launch --cpu` runs one process whatever it is told)."
        )
    if config.global_batch_size is None:
        return config.gradient_accumulation_steps
    at_a_time = num_processes * config.train_batch_size
    if config.global_batch_size % at_a_time:
        raise ValueError(
            f"`global_batch_size` {config.global_batch_size} is not divisible by {num_processes} process(es) times "
            f"`train_batch_size` {config.train_batch_size}."
        )
    return config.global_batch_size // at_a_time
