# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
import shlex
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest
import yaml
from tiny_training import parse_config

from diffusers_jova.training.config import LoraTrainingConfig, TrainingConfig, accumulation_steps
from diffusers_jova.training.flags import to_dict, write_yaml
from diffusers_jova.training.validation_prompts import read_validation_prompts


FOLDERS = {"model": "m", "cache_dir": "c", "output_dir": "o"}
FLAGS = ["--model", "m", "--cache_dir", "c", "--output_dir", "o"]
CONFIGS = Path(__file__).parents[2] / "training" / "configs"


def write(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_every_field_is_a_flag_of_the_same_name():
    for item in fields(LoraTrainingConfig):
        with pytest.raises(SystemExit):
            parse_config(LoraTrainingConfig, [*FLAGS, f"--{item.name}x", "1"])
    config = parse_config(LoraTrainingConfig, [*FLAGS, "--learning_rate", "2e-5", "--use_ema", "--alpha", "8"])
    assert (config.learning_rate, config.use_ema, config.alpha) == (2e-5, True, 8.0)


def test_a_flag_goes_before_the_yaml_file_and_both_before_the_default(tmp_path):
    path = write(tmp_path, "learning_rate: 5e-5\nmax_train_steps: 7\n")
    config = parse_config(TrainingConfig, [*FLAGS, "--config", path, "--max_train_steps", "9"])
    assert (config.learning_rate, config.max_train_steps, config.seed) == (5e-5, 9, 0)


def test_a_switch_in_the_yaml_file_can_be_turned_off_by_a_flag(tmp_path):
    path = write(tmp_path, "use_ema: true\n")
    assert parse_config(TrainingConfig, [*FLAGS, "--config", path]).use_ema
    assert not parse_config(TrainingConfig, [*FLAGS, "--config", path, "--no-use_ema"]).use_ema


def test_an_unknown_yaml_key_is_an_error_that_names_the_nearest(tmp_path):
    path = write(tmp_path, "lerning_rate: 1.0e-4\n")
    with pytest.raises(ValueError, match="unknown key `lerning_rate`.*Did you mean `learning_rate`"):
        parse_config(TrainingConfig, [*FLAGS, "--config", path])


def test_a_setting_of_lora_is_unknown_to_full_training(tmp_path):
    with pytest.raises(ValueError, match="unknown key `rank`"):
        parse_config(TrainingConfig, [*FLAGS, "--config", write(tmp_path, "rank: 8\n")])


def test_an_unknown_flag_names_the_nearest(capsys):
    with pytest.raises(SystemExit):
        parse_config(TrainingConfig, [*FLAGS, "--max_train_step", "3"])
    assert "Did you mean `--max_train_steps`" in capsys.readouterr().err


def test_a_missing_folder_setting_is_named():
    with pytest.raises(ValueError, match="`cache_dir` is missing"):
        parse_config(TrainingConfig, ["--model", "m", "--output_dir", "o"])


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text):
    with pytest.raises(ValueError, match="config.yaml"):
        parse_config(TrainingConfig, [*FLAGS, "--config", write(tmp_path, text)])


def test_a_missing_settings_file_is_named():
    with pytest.raises(FileNotFoundError, match="nowhere.yaml"):
        parse_config(TrainingConfig, [*FLAGS, "--config", "nowhere.yaml"])


def test_yaml_numbers_without_a_point_are_numbers(tmp_path):
    assert (
        parse_config(TrainingConfig, [*FLAGS, "--config", write(tmp_path, "learning_rate: 1e-4")]).learning_rate
        == 1e-4
    )


@pytest.mark.parametrize(
    "setting, message",
    [
        ({"learning_rate": "fast"}, "`learning_rate` must be a number, got 'fast'"),
        ({"max_train_steps": 1.5}, "`max_train_steps` must be a whole number"),
        ({"use_ema": 1}, "`use_ema` must be true or false"),
        ({"train_batch_size": 0}, "`train_batch_size` must be at least 1"),
        ({"caption_dropout": 1.5}, "`caption_dropout` must be between 0 and 1"),
        ({"learning_rate": 0}, "`learning_rate` must be positive"),
        ({"sigma_sampling": "logitnormal"}, "Did you mean `logit_normal`"),
        ({"branch": "both"}, "`branch` must be one of video, audio, joint"),
        ({"branch": "video", "mouth_loss_weight": 5.0}, "stage 1"),
        ({"branch": "video", "independent_timesteps": True}, "needs both branches"),
        ({"branch": "audio", "cross_modal_dropout": 0.1}, "`cross_modal_dropout` needs both branches"),
        ({"cross_modal_dropout": 1.5}, "`cross_modal_dropout` must be between 0 and 1"),
        ({"audio_sigma_shift": 1.0}, "needs `independent_timesteps`"),
        ({"branch": "video", "init_audio_from_video": True}, "has no use"),
        ({"audio_transformer": "a", "init_audio_from_video": True}, "exclude each other"),
        ({"global_batch_size": 8, "gradient_accumulation_steps": 2}, "give one of the two"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**FOLDERS, **setting)


@pytest.mark.parametrize("setting, message", [({"rank": 0}, "`rank` must be at least 1"), ({"alpha": 0}, "`alpha`")])
def test_a_lora_that_could_not_learn_is_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        LoraTrainingConfig(**FOLDERS, **setting)


def test_stage_one_has_no_mouth_loss_and_stage_two_has_the_papers():
    assert [TrainingConfig(**FOLDERS, branch=b).mouth_loss_weight for b in ("video", "audio", "joint")] == [0, 0, 5]


def test_alpha_is_the_rank_by_default():
    assert LoraTrainingConfig(**FOLDERS, rank=4).alpha == 4.0


def test_settings_do_not_change_once_made():
    with pytest.raises(FrozenInstanceError):
        TrainingConfig(**FOLDERS).seed = 1


def test_settings_survive_their_yaml_file(tmp_path):
    config = LoraTrainingConfig(**FOLDERS, validation_prompts=["a", "b"], learning_rate=1e-4, lora_modalities="text")
    write_yaml(config, tmp_path / "c.yaml")
    assert parse_config(LoraTrainingConfig, ["--config", str(tmp_path / "c.yaml")]) == config


@pytest.mark.parametrize("size, processes, steps", [(None, 2, 1), (256, 8, 16), (32, 1, 16)])
def test_the_global_batch_size_sets_the_accumulation(size, processes, steps):
    config = TrainingConfig(**FOLDERS, train_batch_size=2, global_batch_size=size)
    assert accumulation_steps(config, processes) == steps


def test_a_global_batch_size_that_cannot_be_shared_is_refused():
    with pytest.raises(ValueError, match="not divisible"):
        accumulation_steps(TrainingConfig(**FOLDERS, global_batch_size=10), 4)


def test_another_number_of_processes_than_asked_for_is_refused():
    with pytest.raises(ValueError, match="1 process"):
        accumulation_steps(TrainingConfig(**FOLDERS, num_processes=2), 1)


def test_the_papers_recipe_is_what_the_two_files_say():
    stage1 = parse_config(
        TrainingConfig, [*FLAGS, "--branch", "audio", "--config", str(CONFIGS / "paper_stage1.yaml")]
    )
    stage2 = parse_config(TrainingConfig, [*FLAGS, "--config", str(CONFIGS / "paper_stage2.yaml")])
    for config, size, rate, steps in ((stage1, 256, 1e-4, 80_000), (stage2, 32, 5e-5, 50_000)):
        assert (config.global_batch_size, config.learning_rate, config.max_train_steps) == (size, rate, steps)
        assert (config.sigma_sampling, config.sigma_shift, config.independent_timesteps) == ("uniform", 1.0, False)
        assert (config.lr_scheduler, config.lr_warmup_steps) == ("constant", 0)
    assert (stage1.mouth_loss_weight, stage2.mouth_loss_weight, stage2.branch) == (0.0, 5.0, "joint")
    assert yaml.safe_load((CONFIGS / "paper_stage2.yaml").read_text())["mouth_loss_weight"] == 5.0


@pytest.mark.parametrize("wan, paper", [("wan_stage1_audio", "paper_stage1"), ("wan_stage2", "paper_stage2")])
def test_the_recipe_for_a_wan_is_the_papers_but_for_what_learns(wan, paper):
    ours, theirs = (yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()) for name in (wan, paper))
    assert set(ours) - set(theirs) <= {"branch", "video_lora_rank"}
    missing = {name for name in theirs if theirs[name] != ours.get(name)}
    assert missing <= {"image_conditioning_probability"}  # which audio alone has no use for


def test_a_lora_of_jova_nano_has_the_noise_levels_that_jova_nano_was_trained_with():
    flags = ["--model", "jova-nano", *FLAGS[2:]]
    lora = parse_config(LoraTrainingConfig, [*flags, "--config", str(CONFIGS / "lora_nano.yaml")])
    whole = parse_config(TrainingConfig, [*flags, "--config", str(CONFIGS / "nano.yaml")])
    for name in ("sigma_sampling", "sigma_shift", "logit_mean", "logit_std", "caption_dropout",
                 "image_conditioning_probability", "independent_timesteps", "mouth_loss_weight"):  # fmt: skip
        assert getattr(lora, name) == getattr(whole, name)
    assert lora.sigma_shift == 5.0 and lora.sigma_sampling == "logit_normal" and lora.num_held_out > 0


def test_the_commands_of_the_readme_name_the_model_and_flags_that_exist():
    text = (CONFIGS.parent / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
    section = text[: text.index("## The paper's two stages")]
    commands = [shlex.split(line) for line in section.splitlines() if line.startswith("diffusers-jova ")]
    assert [command[1] for command in commands] == ["preprocess", "train-lora", "generate"]
    for command in commands:
        assert command[command.index("--model") + 1] == "jova-nano"
    assert parse_config(LoraTrainingConfig, commands[1][2:]).rank == 16
    repository = CONFIGS.parents[1]
    for name in ("training/portrait.png", "training/nano/make_corpus.py"):
        assert name in section and (repository / name).stat().st_size < 50_000


def test_validation_prompts_are_texts_mappings_and_files(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"prompt": "a", "num_frames": 5}\n\n{"prompt": "b"}\n', encoding="utf-8")
    (tmp_path / "p.yaml").write_text("- c\n- {transcript: one}\n", encoding="utf-8")
    prompts = read_validation_prompts(["x", {"prompt": "y"}, str(tmp_path / "p.jsonl"), str(tmp_path / "p.yaml")])
    assert prompts == [
        {"prompt": "x"},
        {"prompt": "y"},
        {"prompt": "a", "num_frames": 5},
        {"prompt": "b"},
        {"prompt": "c"},
        {"transcript": "one"},
    ]
    with pytest.raises(FileNotFoundError, match="none.jsonl"):
        read_validation_prompts([str(tmp_path / "none.jsonl")])


def test_the_settings_can_be_written_as_json():
    assert to_dict(TrainingConfig(**FOLDERS, validation_prompts=("a",)))["validation_prompts"] == ["a"]


@pytest.mark.parametrize("suffix", [".jsonl", ".yaml"])
def test_a_file_of_validation_prompts_nested_too_deep_is_named(suffix, tmp_path):
    (tmp_path / f"p{suffix}").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=rf"p\{suffix}`(, line 1, is nested too deep| cannot be read)"):
        read_validation_prompts([str(tmp_path / f"p{suffix}")])
