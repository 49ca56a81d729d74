# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Data: from clips to a cache of latents, text embeddings and mouth boxes that training reads.

    clips, names           which clips there are, and what is said about each: a list of `Source`
    probe, windows         what a clip holds, and the windows of it that become samples
    settings, model_facts  what is asked for, what the cache has, what the model wants; `run` holds it for all phases
    plan, dry_run          what will be done
    inventory              what is cached already, and what has to leave
    prepare                a window -> frames, audio and mouth boxes, in processes of their own
    encode                 these -> moments and embeddings
    preview, check         what is left after a VAE, to see (`preview`) and in numbers (`round_trip`)
    parts, cache           the files of a sample, on the way and in the end
    summary                what became of the clips
    preprocessing          all of it, in order
    validate_mouth_mask    the paper's test of the mask on a clip

What makes clips of other films, or says more about them, goes before the plan and leaves what `clips.find_sources`
reads.
"""
