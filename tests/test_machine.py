# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
from diffusers_jova.machine import container_limits


def test_the_limit_of_a_container_counts(tmp_path):
    for name, text in (("memory.max", "1000\n"), ("memory.current", "700\n"), ("memory.stat", "anon 1\nfile 200\n")):
        (tmp_path / name).write_text(text)
    assert container_limits(tmp_path) == [500]
    (tmp_path / "memory.max").write_text("max\n")
    assert container_limits(tmp_path) == []
