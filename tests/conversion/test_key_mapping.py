# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
import time

import pytest
import torch

from diffusers_jova.conversion.key_mapping import KEEP, ConversionError, KeyMap, Rule, load_key_map
from diffusers_jova.conversion.report import Report


ALL_VERBS = """
version: test-1
rules:
- rename: blocks.<i>.norm.<p>
  to: layers.<i>.norm1.<p>
- split: blocks.<i>.qkv.<p>
  to: [layers.<i>.to_q.<p>, layers.<i>.to_k.<p>, layers.<i>.to_v.<p>]
- fuse: [blocks.<i>.gate.weight, blocks.<i>.up.weight]
  to: layers.<i>.gate_up.weight
- swap: final.<p>
  to: norm_out.<p>
- swap: modulation.<p>
  to: adaln.<p>
  order: [2, 0, 1]
- transpose: embed.weight
  to: embedder.weight
- drop: <rest*>.num_batches_tracked
- rename: tail.<rest*>
  to: end.<rest*>
"""


@pytest.fixture
def key_map_file(tmp_path):
    def write(text):
        path = tmp_path / "map.yaml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def source():
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "blocks.0.norm.weight": (4,),
        "blocks.0.qkv.weight": (12, 4),
        "blocks.1.qkv.weight": (12, 4),
        "blocks.0.gate.weight": (3, 4),
        "blocks.0.up.weight": (3, 4),
        "final.weight": (8, 4),
        "modulation.bias": (9,),
        "embed.weight": (3, 5),
        "tail.a.b.c": (1,),
    }
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def apply(key_map, state_dict):
    """Return what a key map makes of a state dict in memory."""
    writes, unmatched = key_map.match(state_dict)
    assert unmatched == []
    return {write.name: write.make(*write.sources) for write in writes}


def test_every_verb_does_what_it_says(key_map_file, source):
    converted = apply(load_key_map(key_map_file(ALL_VERBS)), {**source, "a.num_batches_tracked": torch.ones(1)})
    assert torch.equal(converted["layers.1.to_k.weight"], source["blocks.1.qkv.weight"][4:8])
    fused = [source["blocks.0.gate.weight"], source["blocks.0.up.weight"]]
    assert torch.equal(converted["layers.0.gate_up.weight"], torch.cat(fused))
    assert torch.equal(converted["norm_out.weight"], source["final.weight"].roll(4, 0))
    assert torch.equal(converted["adaln.bias"], source["modulation.bias"].reshape(3, 3)[[2, 0, 1]].flatten())
    assert torch.equal(converted["embedder.weight"], source["embed.weight"].T)
    assert "a.num_batches_tracked" not in converted
    assert {"layers.0.norm1.weight", "end.a.b.c"} <= converted.keys()


def test_a_table_read_backwards_gives_the_source_back(key_map_file, source, same_tensors):
    key_map = load_key_map(key_map_file(ALL_VERBS))
    assert same_tensors(apply(key_map.inverse, apply(key_map, source)), source)


def test_each_tensor_says_what_became_of_it(key_map_file, source):
    writes, _ = load_key_map(key_map_file(ALL_VERBS)).match(source)
    rows = {str(write) for write in writes}
    assert {
        "layers.0.norm1.weight: copied from blocks.0.norm.weight",
        "layers.1.to_v.weight: reordered from blocks.1.qkv.weight",
        "layers.0.gate_up.weight: reordered from blocks.0.gate.weight, blocks.0.up.weight",
        "embedder.weight: reordered from embed.weight",
    } <= rows


def test_what_computes_numbers_has_no_way_back():
    key_map = KeyMap("t", (Rule(("<a*>.weight",), ("<a*>.weight",), function=torch.neg, line="line 3"), KEEP))
    converted = apply(key_map, {"a.weight": torch.ones(2), "a.bias": torch.ones(1)})
    assert converted["a.weight"].tolist() == [-1, -1] and converted["a.bias"].tolist() == [1]
    with pytest.raises(ConversionError, match="line 3 has no inverse"):
        _ = key_map.inverse


def test_a_rule_for_one_name_and_a_pattern_count_in_their_order():
    one, pattern = Rule(("a.b",), ("one",)), Rule(("a.<x>",), ("pattern.<x>",))
    assert [write.name for write in KeyMap("t", (one, pattern)).match({"a.b": None})[0]] == ["one"]
    assert [write.name for write in KeyMap("t", (pattern, one)).match({"a.b": None})[0]] == ["pattern.b"]


def test_a_table_of_thousands_of_names_takes_no_time():
    names = {f"a.{k}": f"b.{k}" for k in range(20_000)}
    start = time.process_time()
    writes, unmatched = KeyMap.of_names("t", names).match(names)
    assert [write.name for write in writes] == list(names.values()) and unmatched == []
    assert time.process_time() - start < 10  # name by name it would be minutes


@pytest.mark.parametrize(
    "text, line, problem",
    [
        ("version: a\nrules:\n- renam: a\n  to: b\n", 3, "exactly one verb"),
        ("version: a\nrules:\n- rename: a\n", 3, "to is missing"),
        ("version: a\nrules:\n- rename: a\n  to: b\n- rename: c.<i>\n  to: d\n", 5, "same placeholders"),
        ("version: a\nrules:\n- rename: a\n  to: b\n  order: [1]\n", 5, "unknown entry 'order'"),
        ("version: a\nrules:\n- split: a\n  to: b\n", 4, "list of two or more"),
        ("version: a\nrules:\n- swap: a\n  to: b\n  order: [0, 2]\n", 5, "0 to n - 1"),
        ("version: a\nrules:\n- rename: a\n  to: b\n  to: c\n", 5, "given twice"),
        ("version: a\nrules:\n- rename: a.<i\n  to: b\n", 3, "bracket"),
        ("version: a\nrules:\n- constant: a\n  value: 1\n", 3, "exactly one verb out of rename, split, fuse"),
        ("version: a\nextends: nothing\nrules: []\n", 2, "built-in"),
        ("version: a\nrules:\n- rename: [a\n  to: b\n", 4, ""),
        ("version: a\n", 1, "rules is missing"),
        ("version: a\nrules: 3\n", 2, "must be a list"),
        ("", 1, "expected"),
    ],
)
def test_a_mistake_is_reported_with_its_line(key_map_file, text, line, problem):
    with pytest.raises(ConversionError, match=rf"map\.yaml, line {line}\b.*{problem}"):
        load_key_map(key_map_file(text))


def test_an_extending_map_is_tried_first_and_the_built_in_one_after_it(key_map_file):
    text = """
version: real-2
extends: waver
rules:
- split: transformer_blocks.<i>.media.qkv.<p>
  to: [transformer_blocks.<i>.<branch>.to_q.<p>, transformer_blocks.<i>.<branch>.to_k.<p>,
       transformer_blocks.<i>.<branch>.to_v.<p>]
"""
    key_map = load_key_map(key_map_file(text)).bind(branch="audio", head="audio_")
    source = {"transformer_blocks.0.media.qkv.bias": torch.arange(6), "proj_out.bias": torch.arange(2)}
    converted = apply(key_map, source)
    assert key_map.version == "real-2 + waver-1"
    assert torch.equal(converted["transformer_blocks.0.audio.to_k.bias"], torch.tensor([2, 3]))
    assert torch.equal(converted["audio_proj_out.bias"], torch.arange(2))
    assert apply(key_map.inverse, converted).keys() == source.keys()


def test_two_tensors_of_one_name_are_refused():
    key_map = KeyMap("t", (Rule(("a",), ("c",), line="line 1"), Rule(("b",), ("c",), line="line 2")))
    with pytest.raises(ConversionError, match=r"both become c: a \(line 1\) and b \(line 2\)"):
        key_map.match({"a": None, "b": None})


def test_a_map_that_does_not_lead_back_is_refused():
    rules = (Rule(("x.<r*>",), ("y.<r*>",), line="line 1"), Rule(("z",), ("y.z",), line="line 2"))
    with pytest.raises(ConversionError, match="not reversible: z becomes y.z.*line 2.*line 1 and gives x.z"):
        KeyMap("t", rules).match({"z": None})


def test_fusing_several_dtypes_is_refused():
    rule = Rule(("a", "b"), ("c",), line="line 7")
    with pytest.raises(ConversionError, match="line 7.*bfloat16.*float32"):
        rule.make(0, torch.ones(2), torch.ones(2, dtype=torch.bfloat16))


def test_splitting_unevenly_is_refused():
    with pytest.raises(ConversionError, match="line 7.*not a multiple of 3"):
        Rule(("a",), ("b", "c", "d"), line="line 7").make(1, torch.ones(4))


def test_half_of_what_is_to_be_fused_is_left_over():
    key_map = KeyMap("t", (Rule(("a.<i>", "b.<i>"), ("c.<i>",)),))
    writes, unmatched = key_map.match(dict.fromkeys(["a.0", "b.0", "a.1"]))
    assert [write.name for write in writes] == ["c.0"]
    assert unmatched == ["a.1"]


def test_report_names_both_shapes_and_the_nearest_names():
    expected = {"block.to_q.weight": (4, 4), "block.to_k.weight": (4, 4), "head.weight": (2, 4)}
    produced = {"block.to_k.weight": (4, 4), "head.weight": (4, 4)}
    report = Report.compare(produced, expected, {"block.to_qq.weight": (4, 4)})
    text = str(report)
    assert "1 matched, 0 initialised, 1 missing, 1 unexpected, 1 shape mismatches" in text
    assert "missing: block.to_q.weight (4, 4) (nearest: block.to_qq.weight)" in text
    assert "unexpected: block.to_qq.weight (4, 4) (nearest: block.to_q.weight)" in text
    assert "shape mismatch: head.weight is (4, 4), expected (2, 4)" in text


def test_report_passes_only_if_patterns_name_all_that_is_open():
    report = Report.compare({"extra": (1,), "head.weight": (1,)}, {"head.weight": (2,), "a.bias": (1,)}, {})
    with pytest.raises(ConversionError, match="1 missing, 1 unexpected, 1 of another shape"):
        report.check()
    with pytest.raises(ConversionError, match="0 missing, 1 unexpected, 0 of another shape.*extra"):
        report.check(["*.bias", "head.*"])
    report.check(["*.bias", "head.*", "extra"])
