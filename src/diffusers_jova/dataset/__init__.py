# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Data sets: from films to clips that are worth training on, in steps that hand on rows.

    rows              what a step reads and writes
    films, split      a film -> its shots, faces and bars -> clips
    measures          a clip -> numbers, by the ruler's functions where it has them
    filters, filter   the table of thresholds, and what they leave of the clips
    duplicates        near-duplicates in the whole set
    cutting, pack     a piece of a film -> a file of its own; clips -> tars
    html_report       a page with the clips on both sides of each threshold
    annotation        models that say what is said, seen and heard
    apply             a step's function over all of them, in child processes: where another engine would begin
    journal, summary  what is known so far; what became of films and clips

Each step can be left out, repeated or replaced: docs/dataset.md describes the rows.
"""
