# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""`--engine ray`: a cluster of two nodes gives the same bytes as one process, also when workers and a node are lost.

The cluster is a real one on loopback; what is lost is killed with SIGKILL. The node that is lost is never the head.
"""

import json
import logging
import signal
import threading
from pathlib import Path

import psutil
import pytest
from lost_workers import SlowMeasurer, SlowSplitter, halve_or_kill
from plain_clips import content, write_clip
from plain_films import COLOURS, SETTINGS, scene, write_film
from tiny_annotators import make_qwen2_vl

from diffusers_jova.cli.dispatch import main
from diffusers_jova.data.preprocessing import PreprocessingConfig, preprocess
from diffusers_jova.dataset import filter as filter_module
from diffusers_jova.dataset import split as split_module
from diffusers_jova.dataset.annotation.annotate import AnnotationConfig, annotate
from diffusers_jova.dataset.journal import Journal
from diffusers_jova.dataset.split import SplitConfig, split
from diffusers_jova.engines import EngineConfig, open_engine
from diffusers_jova.pipelines.random_pipeline import create_pipeline
from diffusers_jova.ray_engine import MAX_RETRIES


# now, and not in a test: its import changes sys.path and sys.excepthook
pytest.importorskip("ray", reason="needs Ray: pip install 'diffusers-jova[ray]'")
pytestmark = pytest.mark.long

SIGTERM_HANDLER, LOG_LEVEL = signal.getsignal(signal.SIGTERM), logging.getLogger("ray").level
STORE = 100 * 2**20  # bytes of each node's object store


@pytest.fixture(scope="module")
def cluster():
    """A head, on loopback: it has more CPUs by name than the machine may have, and asks for no token."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 2,
                "object_store_memory": STORE,
                "include_dashboard": False,
                "_system_config": {"worker_niceness": 0},  # Ray's 15 lets workers starve beside other tests
            },
        )
    yield cluster
    cluster.shutdown()


@pytest.fixture
def second_node(cluster):
    """Another machine of the cluster, which a test may take away."""
    node = cluster.add_node(num_cpus=4, object_store_memory=STORE)
    cluster.wait_for_nodes()
    yield node
    if node in cluster.worker_nodes:
        cluster.remove_node(node)


@pytest.fixture(autouse=True)
def put_back_what_ray_sets(monkeypatch):
    """A cluster and `ray.init` handle SIGTERM from then on, take Python's breakpoints, and set a level of the log."""
    monkeypatch.setenv("PYTHONBREAKPOINT", "")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    yield
    signal.signal(signal.SIGTERM, SIGTERM_HANDLER)
    logging.getLogger("ray").setLevel(LOG_LEVEL)


def kill_one(name: str) -> None:
    """Kill a worker of the cluster that this process has started."""
    workers = [p for p in psutil.Process().children(recursive=True) if f"ray::{name}" in " ".join(p.cmdline())]
    workers[0].send_signal(signal.SIGKILL)


def after(number: int, function, do):
    """Return `function` with `do()` after so many calls, in a thread of its own: who calls it goes on."""
    calls = []

    def wrapped(*args, **kwargs):
        result = function(*args, **kwargs)
        calls.append(None)
        if len(calls) == number:
            threading.Thread(target=do).start()
        return result

    return wrapped


def test_a_clip_that_kills_its_reader_and_one_that_kills_its_worker_cost_themselves_alone(cluster, second_node):
    said = []
    config = EngineConfig(engine="ray", address=cluster.address)
    with open_engine(config, 1, lambda *warning: said.append(warning)) as engine:
        results = list(engine.map(halve_or_kill, [2, "crash", 4, "worker", "damage", 6]))
    assert [item for item, _ in results] == [2, "crash", 4, "worker", "damage", 6]
    found = dict(results)
    assert [found[item] for item in (2, 4, 6)] == [1, 2, 3]
    assert found["crash"] == "reading it crashed the process" and found["damage"] == "damaged file"
    assert (
        found["worker"].startswith(f"its worker was lost {MAX_RETRIES + 1} times") and not found["worker"].is_lasting
    )
    assert [name for name, _ in said] == ["worker"] * MAX_RETRIES


def test_split_gives_the_same_bytes_while_a_worker_and_a_node_are_lost(cluster, second_node, tmp_path, monkeypatch):
    (tmp_path / "films").mkdir()
    for number in range(8):
        write_film(tmp_path / "films" / f"{number}.mp4", [scene(colour, 15) for colour in COLOURS[:2]])
    (tmp_path / "films" / "broken.mp4").write_bytes(b"not a film")
    settings = {"min_s": 0.5, "max_s": 2.0, "no_faces": True}
    films = str(tmp_path / "films")
    alone = split(SplitConfig(films, str(tmp_path / "alone"), **settings))
    monkeypatch.setattr(split_module, "Splitter", SlowSplitter)
    monkeypatch.setattr(Journal, "add", after(1, Journal.add, lambda: kill_one("_Reader")))
    monkeypatch.setattr(Journal, "add", after(4, Journal.add, lambda: cluster.remove_node(second_node, False)))
    engine = {"engine": "ray", "address": cluster.address, "num_workers": 3}
    together = split(SplitConfig(films, str(tmp_path / "together"), **settings, **engine))
    assert together.num_kept == alone.num_kept == 16 and together.skipped == alone.skipped
    for name in ("metadata.jsonl", "left_out.jsonl", "films.jsonl"):
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "together" / name).read_bytes()
    assert {message.partition(":")[0] for _, message in together.warnings} == {
        "was done again, since its worker was lost"
    }
    assert "warnings: " in str(together)


def test_preprocess_gives_the_same_bytes_while_models_and_a_node_are_lost(cluster, second_node, tmp_path, monkeypatch):
    from diffusers_jova.data import cache

    (tmp_path / "clips").mkdir()
    for number in range(6):
        write_clip(tmp_path / "clips" / f"{number}.mp4", value=40 * number, caption=f"Number {number}.")
    (tmp_path / "clips" / "broken.mp4").write_bytes(b"not a clip")
    model = tmp_path / "model"
    create_pipeline(num_layers=1, num_single_layers=1).save_pretrained(model)
    settings = {"no_mouth": True, "device": "cpu", "no_line_dropout_variants": True, "preview": True}
    clips = str(tmp_path / "clips")
    alone = preprocess(PreprocessingConfig(clips, str(model), str(tmp_path / "alone"), **settings))
    monkeypatch.setattr(cache, "write_tensors", after(2, cache.write_tensors, lambda: kill_one("_Model")))
    monkeypatch.setattr(
        cache, "write_tensors", after(4, cache.write_tensors, lambda: cluster.remove_node(second_node, False))
    )
    engine = {"engine": "ray", "address": cluster.address, "concurrency": 2, "num_workers": 2}
    config = PreprocessingConfig(clips, str(model), str(tmp_path / "together"), **settings, **engine)
    together = preprocess(config)
    assert content(tmp_path / "alone") == content(tmp_path / "together")
    assert together.rows == alone.rows and together.skipped == alone.skipped and len(alone.rows) == 6
    assert any("was done again" in message for _, message in together.warnings)


def test_annotate_gives_the_same_bytes_while_its_model_is_lost(cluster, second_node, tmp_path, monkeypatch):
    from diffusers_jova.dataset.annotation import annotate as annotate_module

    (tmp_path / "clips").mkdir()
    for number in range(5):
        write_clip(tmp_path / "clips" / f"{number}.mp4", sound=False, value=40 * number)
    make_qwen2_vl(tmp_path / "captioner")
    settings = {"levels": ("video_caption",), "video_captioner": str(tmp_path / "captioner"), "device": "cpu"}
    settings |= {"batch_size": 2, "max_new_tokens": 12}
    clips = str(tmp_path / "clips")
    annotate(AnnotationConfig(clips, str(tmp_path / "alone"), **settings))
    monkeypatch.setattr(annotate_module, "note", after(1, annotate_module.note, lambda: kill_one("_Model")))
    engine = {"engine": "ray", "address": cluster.address}
    summary = annotate(AnnotationConfig(clips, str(tmp_path / "together"), **settings, **engine))
    for name in ("metadata.jsonl", "annotations.jsonl"):
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "together" / name).read_bytes()
    assert any("was done again" in message for _, message in summary.warnings)


def test_films_become_the_same_cache_while_a_node_is_lost(cluster, second_node, tmp_path, monkeypatch, capsys):
    (tmp_path / "films").mkdir()
    for number in range(4):
        film = write_film(tmp_path / "films" / f"{number}.mp4", [scene(c, 15) for c in COLOURS[number : number + 2]])
        film.with_suffix(".txt").write_text(f"Square {number}.")
    (tmp_path / "dataset.yaml").write_text(SETTINGS)
    create_pipeline(num_layers=1, num_single_layers=1).save_pretrained(tmp_path / "model")

    def run(*flags):
        names = {"model": "model", "config": "dataset.yaml", "output_dir": "cache"}
        words = [word for flag, name in names.items() for word in (f"--{flag}", str(tmp_path / name))]
        return main(["dataset", str(tmp_path / "films"), *words, "--captions", "given", "--no_faces", *flags])

    assert run("--num_workers", "0") == 0
    (tmp_path / "cache").rename(tmp_path / "alone")
    monkeypatch.setattr(filter_module, "Measurer", SlowMeasurer)
    lose = after(4 + 2, Journal.add, lambda: cluster.remove_node(second_node, False))  # four films, two clips
    monkeypatch.setattr(Journal, "add", lose)
    assert run("--num_workers", "2", "--engine", "ray", "--address", cluster.address) == 0
    assert "was done again, since its worker was lost" in capsys.readouterr().out
    assert content(tmp_path / "alone") == content(tmp_path / "cache")
    report = json.loads((tmp_path / "cache" / "dataset" / "filtered" / "report.json").read_text())
    assert {each["name"].partition("#")[0] for each in report["warnings"]} <= {
        f"../../../films/{number}.mp4" for number in range(4)
    }
    assert report["warnings"]


def test_films_and_outputs_elsewhere_are_read_and_written_by_the_machines_of_a_cluster(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    for number in range(4):
        write_film(tmp_path / "films" / f"{number}.mp4", [scene(colour, 15) for colour in COLOURS[:2]])
    create_pipeline(num_layers=1, num_single_layers=1).save_pretrained(tmp_path / "model")
    place = f"local://{tmp_path}"  # a store that all machines see, and of which fsspec makes copies
    size = {"buckets": ("64x64x9",), "frame_rate": 12.5, "no_mouth": True, "no_line_dropout_variants": True}
    size |= {"instance_prompt": "A square.", "device": "cpu"}

    def run(name, **engine):
        engine |= {"num_workers": 2}
        rows = SplitConfig(f"{place}/films", f"{place}/{name}/split", max_s=2.0, no_faces=True, **engine)
        summary = split(rows)
        cache = PreprocessingConfig(
            rows.output_dir, str(tmp_path / "model"), f"{place}/{name}/cache", **size, **engine
        )
        assert len(preprocess(cache).rows) == summary.num_kept == 8
        return summary

    run("alone")
    monkeypatch.setattr(split_module, "Splitter", SlowSplitter)
    monkeypatch.setattr(Journal, "add", after(1, Journal.add, lambda: kill_one("_Reader")))
    assert run("together", engine="ray", address=cluster.address).warnings
    alone, together = (content(tmp_path / name) for name in ("alone", "together"))
    for folder in (alone, together):
        assert b"/split" in folder.pop(Path("cache/data.json"))  # it names the folder of the rows
    assert alone == together and Path("cache/index.jsonl") in together
