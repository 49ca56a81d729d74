# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Measures of what a model makes: its words, its lips, its images.

`words` and `lips` need no weights. The metrics of the paper's tables take published weight files (`weight_files`):
`lip_sync` (LSE), `word_errors` (WER), `clap` (CS, FD), `audiobox` (CE, CU, PC, PQ), `passt` (KL), `dinov3` (ID),
`raft` (MS), `aesthetics` with `musiq` and `maniqa` (AS), `cnn14` and `distributions` (FD and IS of sets). Each returns
a `Measurement`: values, or the reason why there are none.
"""
