# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
from collections import Counter
from itertools import islice
from types import SimpleNamespace

import pytest
import torch
from tiny_training import make_config, write_cache

from diffusers_jova.data import cache
from diffusers_jova.training.dataset import (
    CachedClips,
    StepSampler,
    Visit,
    collate,
    create_batches,
    draw_lines,
    draw_noise,
    hold_out,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_cache(tmp_path_factory.mktemp("cache"), kinds=("both", "both", "video", "audio", "both"))


def steps(number, buckets, **options):
    """Return the visits of each optimizer step of one process."""
    sampler = StepSampler(buckets, **options)
    per_step = sampler.accumulation_steps
    batches = list(islice(iter(sampler), number * per_step))
    return [sum(batches[i * per_step : (i + 1) * per_step], []) for i in range(number)]


BUCKETS = [["a", "b", "c", "d", "e"], ["x", "y"]]


def test_a_batch_holds_one_kind_and_one_shape(folder):
    clips = CachedClips(folder)
    assert clips.buckets() == [["clip003"], ["clip000", "clip001", "clip004"], ["clip002"]]
    assert clips.kinds == {"both", "video", "audio"}
    for visits in steps(20, clips.buckets(), batch_size=2):
        batch = collate([clips[visit] for visit in visits])
        modalities = {clips.modalities[visit.key] for visit in visits}
        assert len(modalities) == 1 and batch.kind in clips.kinds


def test_batches_of_a_run_come_with_their_noise(folder):
    alone = SimpleNamespace(
        gradient_accumulation_steps=1, process_index=0, num_processes=1, device=torch.device("cpu")
    )
    config = make_config(train_batch_size=2, seed=3)
    batch = next(create_batches(CachedClips(folder), config, alone, first_step=0))
    expected = draw_noise(batch, seed=3)
    assert batch.noise and batch.noise.keys() == expected.keys()
    assert all(torch.equal(batch.noise[name], expected[name]) for name in expected)


def test_clips_of_different_size_are_not_mixed(tmp_path):
    write_cache(tmp_path, kinds=("both",), size=32)
    row = dict(cache.read_index(tmp_path)[0], key="large", height=64, width=64)
    cache.write_sample(tmp_path, row, cache.read_sample(tmp_path, "clip000"))
    cache.write_index(tmp_path)
    assert sorted(map(len, CachedClips(tmp_path).buckets())) == [1, 1]


@pytest.mark.parametrize(
    "branch, keys, kind",
    [("video", {0, 1, 2, 4}, "video"), ("audio", {0, 1, 3, 4}, "audio"), ("joint", {0, 1, 2, 3, 4}, None)],
)
def test_a_branch_sees_its_half_of_the_clips_that_have_it(folder, branch, keys, kind):
    clips = CachedClips(folder, branch)
    assert set(clips.rows) == {f"clip{i:03d}" for i in keys}
    if kind is not None:
        assert clips.kinds == {kind}
        batch = collate([clips[Visit("clip000", 0)], clips[Visit("clip001", 0)]])
        assert batch.kind == kind


def test_clips_share_what_is_the_same_for_all(folder):
    clips = CachedClips(folder)
    first, second = (clips.rows[key] for key in ("clip000", "clip001"))
    assert all(name is other for name, other in zip(first, second, strict=True))
    assert clips.modalities["clip000"] is clips.modalities["clip001"]


def test_texts_of_different_length_are_padded_and_masked(folder):
    clips = CachedClips(folder)
    batch = collate([clips[Visit("clip000", 0)], clips[Visit("clip001", 0)]])
    assert batch.prompt_embeds.shape == (2, 8, 128)
    assert batch.prompt_attention_mask.sum(1).tolist() == [7, 8]
    assert torch.equal(batch.prompt_embeds[1], cache.read_sample(folder, "clip001")["prompt_embeds"])


def test_the_mouth_mask_is_on_the_latent_grid_and_empty_without_boxes(folder, tmp_path):
    mask = CachedClips(folder)[Visit("clip000", 0)].mouth_mask
    assert mask.shape == (2, 4, 4) and mask.dtype == torch.bool
    assert mask[0].nonzero().tolist() == [[2, 1], [2, 2]]  # pixels (8, 16)-(24, 24), 8 per cell
    write_cache(tmp_path, has_mouth=False)
    assert not CachedClips(tmp_path)[Visit("clip000", 0)].mouth_mask.any()


def test_caption_dropout_reads_the_unconditional_prompt_of_both_encoders(folder):
    sample = CachedClips(folder, caption_dropout=1.0)[Visit("clip000", 0)]
    shared = cache.read_shared(folder)
    for name in ("prompt_embeds", "prompt_embeds_2"):
        assert torch.equal(getattr(sample, name), shared[f"unconditional.{name}"])


def test_dropouts_come_as_often_as_asked_and_differ_from_visit_to_visit():
    drawn = Counter(draw_lines(Visit("a", n), 0, 0.2, 0.0) for n in range(2000))
    assert set(drawn) == {(True, True, True), (False, False, False)}
    assert drawn[False, False, False] == pytest.approx(400, abs=60)
    lines = torch.tensor([draw_lines(Visit("a", n), 0, 0.0, 0.3) for n in range(2000)]).float().mean(0)
    assert torch.allclose(lines, torch.full((3,), 0.7), atol=0.05)


def test_a_dropped_line_reads_the_prompt_without_it(tmp_path):
    variants = ("011", "101", "110", "100", "010", "001")
    write_cache(tmp_path, variants=variants)
    clips = CachedClips(tmp_path, line_dropout=0.5)
    for number in range(12):
        kept = "".join(str(int(k)) for k in draw_lines(Visit("clip000", number), 0, 0.0, 0.5))
        length = {"111": 7, "000": 4}.get(kept, 3)
        assert len(clips[Visit("clip000", number)].prompt_embeds) == length


def test_line_dropout_without_the_texts_for_it_says_what_to_do(folder):
    clips = CachedClips(folder, line_dropout=0.9)
    with pytest.raises(ValueError, match="without --no_line_dropout_variants"):
        for number in range(30):
            clips[Visit("clip000", number)]


def test_every_clip_of_a_bucket_comes_before_one_comes_again():
    visits = sum(steps(6, BUCKETS[:1], batch_size=5), [])
    for epoch in range(6):
        assert {v.key for v in visits[5 * epoch : 5 * epoch + 5]} == set(BUCKETS[0])
        assert {v.number for v in visits[5 * epoch : 5 * epoch + 5]} == {epoch}
    assert len({tuple(v.key for v in visits[5 * e : 5 * e + 5]) for e in range(6)}) > 1
    assert len(set(visits)) == len(visits)


def test_buckets_come_in_proportion_to_their_clips():
    counts = Counter(visits[0].key in BUCKETS[1] for visits in steps(700, BUCKETS, batch_size=2))
    assert counts[True] == pytest.approx(200, abs=45)


@pytest.mark.parametrize("batch_size, accumulation_steps, num_processes", [(1, 1, 4), (2, 1, 2), (1, 2, 2), (2, 2, 1)])
def test_a_step_takes_the_same_clips_however_they_are_shared_out(batch_size, accumulation_steps, num_processes):
    alone = steps(15, BUCKETS, batch_size=4)
    shared = [
        steps(15, BUCKETS, batch_size=batch_size, accumulation_steps=accumulation_steps, process_index=index,
              num_processes=num_processes)
        for index in range(num_processes)
    ]  # fmt: skip
    for step, visits in enumerate(alone):
        assert sorted(visits) == sorted(sum((shares[step] for shares in shared), []))


def test_a_resumed_run_sees_the_clips_that_it_would_have_seen():
    assert steps(10, BUCKETS, batch_size=3)[4:] == steps(6, BUCKETS, batch_size=3, first_step=4)


def test_the_order_of_a_seed_stays_what_it_was():
    drawn = [
        "".join(f"{visit.key}{visit.number}" for visit in visits) for visits in steps(8, BUCKETS, batch_size=3, seed=7)
    ]
    assert drawn == ["c0d0b0", "a0e0b1", "d1a1e1", "c1d2b2", "a2e2c2", "d3e3c3", "b3a3d4", "y0x0x1"]


def test_an_order_is_drawn_once_and_not_for_every_visit(monkeypatch):
    drawn = []
    randperm = torch.randperm
    monkeypatch.setattr(torch, "randperm", lambda *args, **options: drawn.append(args) or randperm(*args, **options))
    steps(30, BUCKETS[:1], batch_size=4)  # 120 visits of five clips
    assert len(drawn) == 24


def test_a_visit_is_the_same_whatever_was_asked_before():
    in_order = [StepSampler(BUCKETS).draw_visit(0, position) for position in range(20)]
    sampler = StepSampler(BUCKETS)
    assert [sampler.draw_visit(0, position) for position in reversed(range(20))] == in_order[::-1]


def sources_of(clips):
    return {row["source"] for row in clips.rows.values()}


def test_clips_are_held_out_by_whole_sources_whatever_the_seed(tmp_path):
    write_cache(tmp_path, kinds=("both",) * 9 + ("audio",) * 3)
    for row in cache.read_index(tmp_path):  # clips 0 to 5 are windows of two films
        if row["key"] < "clip006":
            row["source"] = f"film{int(row['key'][-1]) % 2}.mp4"
            cache.write_sample(tmp_path, row, cache.read_sample(tmp_path, row["key"]))
    cache.write_index(tmp_path)
    clips = CachedClips(tmp_path)
    train, held_out = hold_out(clips, 5)
    assert 5 <= len(held_out) and len(train) + len(held_out) == len(clips) == 12
    assert not sources_of(train) & sources_of(held_out)
    assert held_out.kinds == {"both"} and train.kinds == {"audio", "both"}
    assert hold_out(CachedClips(tmp_path, seed=7), 5)[1].rows == held_out.rows
    assert {key for bucket in train.buckets() for key in bucket} == set(train.rows)
    with pytest.raises(ValueError, match="`num_held_out` 8 takes .* of the cache's 12 clips.*hold out fewer"):
        hold_out(clips, 8)


def test_another_seed_gives_another_order():
    assert steps(5, BUCKETS, batch_size=3) != steps(5, BUCKETS, batch_size=3, seed=1)


def test_a_folder_that_is_no_cache_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="run `diffusers-jova preprocess`"):
        CachedClips(tmp_path)


def test_a_branch_without_a_single_clip_is_refused(tmp_path):
    write_cache(tmp_path, kinds=("video",))
    with pytest.raises(ValueError, match="has audio, which `branch: audio` needs"):
        CachedClips(tmp_path, "audio")


def test_a_damaged_clip_is_named(tmp_path):
    write_cache(tmp_path)
    path = cache.sample_path(tmp_path, "clip000")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match="clip000.safetensors"):
        CachedClips(tmp_path)[Visit("clip000", 0)]


def test_the_digest_tells_of_another_clip(folder, tmp_path):
    write_cache(tmp_path, kinds=("both", "both"))
    assert CachedClips(folder).digest() == CachedClips(folder).digest() != CachedClips(tmp_path).digest()
