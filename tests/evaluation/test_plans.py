# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Every metric by every protocol has a plan; sets, references, rounds and errors, with a measure of a few lines."""

import json
import pickle
import weakref
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from diffusers_jova.evaluation.clips import ClipFile, DecodeRequest
from diffusers_jova.evaluation.distributions import frechet
from diffusers_jova.evaluation.insight_faces import load_insightface
from diffusers_jova.evaluation.measurement import Measurement, Status
from diffusers_jova.evaluation.metrics import METRICS, PROFILES, Column, Metric, choose_variants
from diffusers_jova.evaluation.passes import REFERENCE, Network, Pass, Plan, features, the_only
from diffusers_jova.evaluation.plans import Options, make_plans
from diffusers_jova.evaluation.prompt_file import Prompt
from diffusers_jova.evaluation.scoring import (
    Cache,
    Item,
    Scorer,
    decode_item,
    is_expected,
    make_report,
    pack,
    summarize,
    unpack,
)
from diffusers_jova.evaluation.weight_files import needed_files
from diffusers_jova.media import write_wav


PAPER = [(metric, variant) for metric in METRICS if not metric.local for variant in metric.variants]


@pytest.mark.parametrize("metric, variant", PAPER, ids=lambda value: value if isinstance(value, str) else value.name)
def test_each_protocol_has_a_plan_that_needs_the_files_which_the_list_of_weights_names(metric, variant):
    (plan,) = make_plans({metric.name: variant}, Options(transcripts={} if variant == "sensevoice" else None))
    assert (plan.metric.name, plan.variant) == (metric.name, variant)
    assert plan.all_passes or variant == "sensevoice"
    name = "PQ" if metric.name == "AudioBox" else metric.name
    variant = variant.removesuffix("-nonempty")
    listed = {file.name for key in (f"{name}:{variant}",) for file in needed_files([key])}
    assert set(plan.files) == listed


@pytest.mark.parametrize("profile", [name for name in PROFILES if name != "local"])
def test_each_profile_can_be_planned_and_no_network_is_loaded_twice(profile):
    plans = make_plans(choose_variants(profile), Options(transcripts={}))
    assert [plan.metric.name for plan in plans] == list(PROFILES[profile])
    networks = {}
    for each in (each for plan in plans for each in plan.all_passes):
        networks.setdefault(each.network.name, set()).add(id(each.network))
    assert all(len(same) == 1 for same in networks.values())


def test_an_empty_audio_prompt_counts_in_verse_benchs_cs_and_not_in_the_fixed_one():
    empty = Prompt("a", audio_prompt=("",))
    verse, fixed = (make_plans({"CS": variant})[0] for variant in ("verse", "verse-nonempty"))
    assert (is_expected(verse, empty), is_expected(fixed, empty)) == (True, False)
    sound = features(embedding=np.eye(4)[0])
    findings = {each.name: sound for each in verse.passes}
    assert verse.combine(empty, findings).values == {"CS": 1}
    assert fixed.combine(empty, findings).status == Status.NO_TEXT
    assert fixed.combine(Prompt("a", audio_prompt=("rain",)), findings).values == {"CS": 1}


# --- a real measure that takes no weights ---


def spectrum(network, clip, findings):
    """Return the level of the audio in four bands: features as of a network, of few numbers."""
    waveform = clip.audio(8000)
    if waveform is None or not np.any(waveform):
        return Measurement(Status.SILENT)
    power = np.abs(np.fft.rfft(waveform)) ** 2
    return features(bands=np.log10([band.mean() for band in np.array_split(power, 4)]))


BANDS = Pass("bands", Network("spectrum"), spectrum, ("audio",), on_reference=True)
METRIC = Metric("Bands", "levels of bands", (Column("B", "lower", "dB"),), ("plain",), ("reference_audio",))


def distance(prompt, findings):
    clip, reference = findings["bands"], findings["bands" + REFERENCE]
    for found in (reference, clip):
        if found.status != Status.OK:
            return replace(found, features={})
    gap = float(np.abs(clip.features["bands"] - reference.features["bands"]).mean())
    return Measurement(Status.OK, {"B": gap}, features={"a": clip.features["bands"], "b": reference.features["bands"]})


def of_set(measured):
    return {"B": frechet(*(np.stack([item.features[name] for item in measured]) for name in "ab"))}


PAIRS = Plan(METRIC, "plain", (BANDS,), distance)
SETS = replace(PAIRS, of_set=of_set, mean_of_sets=True, average="Frechet distance of the set")


@pytest.fixture(scope="session")
def sounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    noise = np.random.default_rng(0).standard_normal((7, 4000)).astype(np.float32) * 0.1
    for index, samples in enumerate(noise):
        write_wav(folder / f"{index}.wav", samples * (index != 6), 8000)
        write_wav(folder / f"{index}-reference.wav", samples[::-1] * 0.5, 8000)
    (folder / "bad.wav").write_bytes(b"RIFF")
    return folder


def items_of(sounds, **references):
    """Return seven items in two sets; the last clip is silent."""
    items = []
    for index in range(7):
        path = sounds / f"{index}.wav"
        reference = sounds / references.get(f"of_{index}", f"{index}-reference.wav")
        items.append(Item(Prompt(str(index), f"set{index % 2}", reference_audio=reference), ClipFile(path, path)))
    return items


def test_a_clip_and_its_reference_are_compared_and_what_is_wrong_with_either_is_told(sounds):
    items = items_of(sounds, of_1="nothing.wav", of_2="bad.wav", of_3="6.wav")
    items[4].prompt = replace(items[4].prompt, reference_audio=None)
    Scorer([PAIRS], None).run(items)
    results = [clip["results"]["Bands"] for clip in make_report([PAIRS], items, {})["clips"]]
    statuses = ["ok", *["no_reference"] * 4, "ok", "silent"]
    assert [result["status"] for result in results] == statuses
    assert results[0]["values"]["B"] == pytest.approx(2 * np.log10(2), abs=1e-3)  # half as loud
    assert "nothing.wav" in results[1]["details"]["reason"] and "bad.wav" in results[2]["details"]["reason"]
    assert results[3]["details"]["reason"] == "the reference is silent"
    assert [result["expected"] for result in results] == [index != 4 for index in range(7)]


def test_a_set_has_a_value_of_its_own_and_all_sets_their_mean(sounds):
    items = items_of(sounds)
    Scorer([SETS], None).run(items)
    summary = make_report([SETS], items, {})["summary"]
    each = [summary[name]["B"]["mean"] for name in ("set0", "set1")]
    assert summary["all"]["B"]["mean"] == pytest.approx(np.mean(each)) and min(each) > 0
    assert summary["all"]["B"]["interval"] is None
    assert "mean of the values of 2 sets" in summary["all"]["B"]["notes"]
    assert summary["set0"]["B"]["statuses"] == {"ok": 3, "silent": 1}


def test_too_few_clips_for_a_set_are_a_note_and_not_a_number(sounds):
    items = items_of(sounds)[:1]
    Scorer([SETS], None).run(items)
    entry = make_report([SETS], items, {})["summary"]["all"]["B"]
    assert entry["mean"] is None and "needs 2 clips or more" in entry["notes"][0]


def test_rounds_do_not_change_the_values_and_leave_no_files(sounds, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    loaded = []
    plan = replace(PAIRS, passes=(replace(BANDS, network=Network("spectrum", lambda *_: loaded.append(1))),))
    values = []
    for max_bytes in (1 << 30, 40000):
        items = items_of(sounds)
        Scorer([plan], None, max_decoded_bytes=max_bytes).run(items)
        values.append([clip["results"]["Bands"]["values"] for clip in make_report([plan], items, {})["clips"]])
    assert values[0] == values[1]
    assert len(loaded) == 1 + 7  # each clip and its reference take 32 kB, more than half of the limit
    assert not list(tmp_path.iterdir())


def test_a_clip_can_be_decoded_in_another_process(sounds, tmp_path):
    request = DecodeRequest(tmp_path / "0", sounds / "0.wav", sounds / "0.wav", 1 << 20)
    work = pickle.loads(pickle.dumps(partial(decode_item, (request, None))))
    decoded, reference = pickle.loads(pickle.dumps(work()))
    assert (decoded.audio_shape, decoded.sampling_rate, decoded.shape, reference) == ((1, 4000), 8000, None, None)


def test_one_network_is_in_memory_at_a_time_and_each_is_loaded_once(sounds):
    alive, most, loads = weakref.WeakSet(), [], []

    class Weights:
        pass

    def load(name, weights, device):
        loads.append(name)
        network = Weights()
        alive.add(network)
        most.append(len(alive))
        return network

    passes = [
        Pass(f"bands-{i}", Network(name, partial(load, name)), spectrum, ("audio",), after=after)
        for i, (name, after) in enumerate([("first", ()), ("second", (BANDS,)), ("third", ())])
    ]
    passes.append(replace(passes[0], name="bands-3"))  # of the first network again
    plans = [replace(PAIRS, metric=replace(METRIC, name=each.name), passes=(each,)) for each in passes]
    items = items_of(sounds)
    Scorer(plans, None).run(items)
    assert loads == ["first", "second", "third"] and most == [1, 1, 1]
    assert all({"bands", *(each.name for each in passes)} <= item.findings.keys() for item in items[:6])


def test_insightface_is_never_left_to_fetch_its_models(tmp_path):
    with pytest.raises(FileNotFoundError, match="buffalo_l"):
        load_insightface(tmp_path, "cpu")


def test_another_version_another_reference_and_another_setting_are_measured_anew(sounds, tmp_path):
    cache = Cache(tmp_path / "cache")

    def num_measured(plan, **references):
        ran = []

        def run(*arguments):
            ran.append(1)
            return spectrum(*arguments)

        items = items_of(sounds, **references)
        Scorer([replace(plan, passes=(replace(plan.passes[0], run=run),))], None, cache=cache).run(items)
        return len(ran)

    assert num_measured(PAIRS) == 14
    assert num_measured(PAIRS) == 0
    assert num_measured(PAIRS, of_3="4-reference.wav") == 0  # that reference was measured for another clip
    assert num_measured(PAIRS, of_3="5.wav") == 0  # and so was this one, as a clip
    newer = replace(PAIRS, passes=(replace(BANDS, version=2),))
    assert num_measured(newer) == 14
    assert num_measured(replace(PAIRS, passes=(replace(BANDS, settings={"bands": 4}),))) == 14


def test_decoded_clips_that_a_killed_run_left_are_removed(sounds, tmp_path):
    (tmp_path / "decoded" / "0").mkdir(parents=True)
    (tmp_path / "decoded" / "0" / "frames").write_bytes(b"much")
    items = items_of(sounds)
    Scorer([PAIRS], None, cache=Cache(tmp_path)).run(items)
    assert all("bands" in item.findings for item in items) and not (tmp_path / "decoded").exists()


def test_a_clip_that_does_not_count_for_a_metric_is_not_measured_for_it(sounds):
    items = items_of(sounds)
    items[2].prompt = replace(items[2].prompt, metrics=("LSE",))
    Scorer([PAIRS], None).run(items)
    assert [len(item.findings) for item in items] == [2, 2, 0, 2, 2, 2, 2]
    report = make_report([PAIRS], items, {})
    assert report["clips"][2]["results"]["Bands"]["status"] == "excluded"
    assert report["summary"]["all"]["B"]["n_expected"] == 6


def test_a_damaged_entry_of_the_cache_is_made_anew(sounds, tmp_path):
    items = items_of(sounds)
    Scorer([PAIRS], None, cache=Cache(tmp_path)).run(items)
    for path in tmp_path.rglob("*.json"):
        path.write_bytes(path.read_bytes()[:50])
    again = items_of(sounds)
    Scorer([PAIRS], None, cache=Cache(tmp_path)).run(again)
    assert [item.findings.keys() for item in again] == [item.findings.keys() for item in items]


def test_a_measure_that_fails_on_one_clip_is_that_clips_status_and_is_tried_again(sounds, tmp_path):
    broken = True

    def run(network, clip, findings):
        if broken and clip.prompt.id == "3":
            raise RuntimeError("out of luck")
        return spectrum(network, clip, findings)

    plan = replace(PAIRS, passes=(replace(BANDS, run=run),))
    items = items_of(sounds)
    Scorer([plan], None, cache=Cache(tmp_path)).run(items)
    row = make_report([plan], items, {})["clips"][3]["results"]["Bands"]
    assert row["status"] in ("no_reference", "error") and "out of luck" in row["details"]["reason"]
    broken = False
    items = items_of(sounds, of_2="6.wav")  # and the silent clip is a silent reference too
    Scorer([plan], None, cache=Cache(tmp_path)).run(items)
    rows = [clip["results"]["Bands"]["status"] for clip in make_report([plan], items, {})["clips"]]
    assert rows == ["ok", "ok", "no_reference", "ok", "ok", "ok", "silent"]


def test_a_value_that_is_not_finite_is_an_error_and_not_in_the_mean(sounds):
    def combine(prompt, findings):
        return Measurement(Status.OK, {"B": np.nan if prompt.id == "0" else 2.0})

    plan = replace(PAIRS, combine=combine)
    items = items_of(sounds)
    Scorer([plan], None).run(items)
    report = make_report([plan], items, {})
    assert report["clips"][0]["results"]["Bands"]["status"] == "error"
    assert report["summary"]["all"]["B"]["mean"] == 2 and report["summary"]["all"]["B"]["n_used"] == 6


def test_details_of_any_kind_can_be_written(sounds, tmp_path):
    details = {"a": np.float32(0.5), "b": [np.int64(2), np.nan], "c": np.ones(2), "d": (True, None)}

    def run(network, clip, findings):
        return Measurement(Status.OK, {"B": np.float32(1)}, details)

    plan = replace(PAIRS, passes=(replace(BANDS, run=run, on_reference=False),), combine=the_only)
    for _ in range(2):  # as found, and from the cache
        items = items_of(sounds)[:1]
        items[0].prompt = replace(items[0].prompt, set="all")
        Scorer([plan], None, cache=Cache(tmp_path)).run(items)
        report = json.loads(json.dumps(make_report([plan], items, {}), allow_nan=False))
        wanted = {"a": 0.5, "b": [2, None], "c": [1.0, 1.0], "d": [True, None]}
        assert report["clips"][0]["results"]["Bands"]["details"] == wanted
        assert report["summary"]["all"]["B"]["n_used"] == 1


def test_intervals_hold_the_mean_shrink_with_clips_and_come_from_a_seed():
    items = [Item(Prompt(str(index), reference_audio=Path("x")), None) for index in range(400)]
    draws = np.random.default_rng(0).standard_normal(400)
    measured = [Measurement(Status.OK, {"B": float(value)}) for value in draws]
    few, many = (summarize(PAIRS, items[:n], measured[:n])["B"] for n in (25, 400))
    for entry, count in ((few, 25), (many, 400)):
        low, high = entry["interval"]
        assert low < entry["mean"] < high
        assert (high - low) / 2 == pytest.approx(1.96 * draws[:count].std() / count**0.5, rel=0.1)
    assert summarize(PAIRS, items[:25], measured[:25])["B"] == few
    assert summarize(PAIRS, items[:25], measured[:25], seed=1)["B"]["interval"] != few["interval"]


def test_findings_are_the_same_after_the_cache():
    found = Measurement(Status.OK, {"B": 1.5}, {"why": [1, "x"]}, {"a": np.arange(6, dtype=np.float32).reshape(2, 3)})
    again = unpack(pack(found))
    assert (again.status, again.values, again.details) == (found.status, found.values, found.details)
    assert again.features["a"].dtype == np.float32 and np.array_equal(again.features["a"], found.features["a"])
