# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""A page to play with: `diffusers-jova app`, on this machine or as a Space.

`calls` turns what the page's fields hold into a call of `generate`, `clips` makes them, `sessions` keeps apart who
asked for them, `page` shows it all with Gradio, which nothing else here imports, and `space` writes a Space's folder.
"""
