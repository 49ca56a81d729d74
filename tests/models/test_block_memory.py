# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What lives at the peak of a block, in tensors of the size of its tokens (B, V + A + T, D)."""

import pytest
import torch
from live_memory import peak_of

from .tiny_transformers import TINY, blocks_of


# Of them 4 to 5 are the inner width of the feed-forward. With queries, keys, values and their packed copies, which it
# does not need, they were 6 more: 16.6, 17.0 and 11.7.
PEAKS = {"JoVATransformerBlock": 10.6, "JoVASingleTransformerBlock": 11.0, "JoVAWanTransformerBlock": 6.1}


@pytest.mark.parametrize("tiny", TINY.values(), ids=TINY)
def test_queries_keys_and_values_do_not_live_through_the_feed_forward(tiny):
    model = tiny.model()
    given = {}
    for block in blocks_of(model):
        block.register_forward_pre_hook(lambda block, args: given.update({block: args}))
    tiny.run(model, hidden_states=torch.randn(2, 6, 3, 16, 16), audio_hidden_states=torch.randn(2, 5, 60))
    for block, args in given.items():
        video, audio, *_ = args
        peak = peak_of(lambda block=block, args=args: block.forward(*args))
        assert peak <= PEAKS[type(block).__name__] * (video.nbytes + audio.nbytes)
