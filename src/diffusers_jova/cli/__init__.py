# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""`diffusers-jova VERB`: one file per verb, each with `add_arguments(parser)` and `main(args)`.

`dispatch` finds them; `pipeline` and `converting` hold what several of them share.
"""
