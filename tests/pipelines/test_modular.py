# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The blocks of a Modular Pipeline make the clip of `JoVAPipeline`, together and one by one."""

import inspect

import pytest
import torch

from diffusers_jova import JoVABlocks, JoVAPipeline
from diffusers_jova.pipelines.modular import CONFIG, JoVATextEncoderStep
from diffusers_jova.pipelines.prompts import PROMPT_EMBEDS, TEXTS


TEXT = {"prompt": "A face.", "transcript": "one", "negative_audio_prompt": "a robot"}
OUTPUTS = ["frames", "waveform", "sampling_rate"]
# of several calls, of the form of the output, and what an encoded prompt goes by without texts
NOT_OF_BLOCKS = {"self", "return_dict", "window_num_frames", "overlap_num_frames", "window_transcripts"}


def modular(blocks, pipe):
    """Return a modular pipeline of the components and the settings of another pipeline."""
    made = blocks.init_pipeline()
    made.update_components(**pipe.components, **{name: pipe.config[name] for name in CONFIG})
    made.set_progress_bar_config(disable=True)
    return made


@pytest.mark.parametrize(
    "arguments",
    [
        {
            "num_frames": 9,
            "image": torch.linspace(0, 1, 4800).reshape(3, 40, 40),
            "guidance_scale": 2.0,
            "audio_guidance_scale": 1.0,
        },
        {"audio": torch.linspace(-1, 1, 9000), "audio_sampling_rate": 16000, "num_inference_steps": 1},
        {"modalities": ("audio",), "num_videos_per_prompt": 2, "num_inference_steps": 1, "guidance_scale": 1.0},
    ],
    ids=["image", "recording", "audio alone, twice"],
)
def test_blocks_make_the_clip_of_one_call_to_the_bit(pipe, arguments, seeded):
    once = pipe(**TEXT, **arguments, generator=seeded(), output_type="pt")
    made = modular(JoVABlocks(), pipe)(**TEXT, **arguments, generator=seeded(), output_type="pt", output=OUTPUTS)
    for one, other in ((once.frames, made["frames"]), (once.audio, made["waveform"])):
        assert (one is None) == (other is None) and (one is None or torch.equal(one, other))
    assert made["sampling_rate"] == once.audio_sampling_rate


def test_texts_encoded_by_a_block_alone_go_into_the_others(folder, pipe, seeded):
    blocks = JoVABlocks()
    encoder = blocks.sub_blocks.pop("text_encoder").init_pipeline(folder)
    encoder.load_components()
    assert encoder.null_component_names == [] and encoder.component_names == list(JoVATextEncoderStep.parts)
    embeds = encoder(**TEXT, output=list(PROMPT_EMBEDS))
    rest = modular(blocks, pipe)
    assert not set(TEXTS) & set(rest.blocks.input_names)
    made = rest(**embeds, generator=seeded(), num_inference_steps=1, output_type="pt", output="frames")
    once = pipe(**embeds, generator=seeded(), num_inference_steps=1, output_type="pt").frames
    assert torch.equal(made, once)


def test_a_state_goes_on_with_other_arguments(pipe, seeded):
    whole = modular(JoVABlocks(), pipe)
    state = whole(**TEXT, generator=seeded(), num_inference_steps=1, output_type="pt")
    decoder = modular(JoVABlocks().sub_blocks["decode"], pipe)
    images = decoder(state=state, output_type="pil", output="frames")
    assert len(images[0]) == 5 and images[0][0].size == (32, 32)
    assert state.num_frames == 5 and state.frame_rate == 12.5  # the checkpoint's own, told


def test_blocks_take_the_arguments_of_the_call():
    arguments = set(inspect.signature(JoVAPipeline.__call__).parameters) - NOT_OF_BLOCKS
    # of a prompt that is encoded by a block, its names are outputs
    assert set(JoVABlocks().input_names) == arguments - set(PROMPT_EMBEDS)
    assert {"frames", "waveform", "condition", *PROMPT_EMBEDS} <= set(JoVABlocks().output_names)
    assert "guidance_scale" in JoVABlocks().doc


def test_blocks_say_what_is_wrong_in_the_words_of_the_pipeline(pipe):
    whole = modular(JoVABlocks(), pipe)
    with pytest.raises(ValueError, match="`num_frames` must be 4k \\+ 1"):
        whole(**TEXT, num_frames=6)
    with pytest.raises(ValueError, match="`guidance_scale` must be a number of 0 or more"):
        whole(**TEXT, guidance_scale=-1.0)
