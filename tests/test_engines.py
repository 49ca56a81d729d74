# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Where the work is done: flags that go together, a cluster that is not there, and models on this machine.

What needs a cluster is in dataset/test_ray.py.
"""

import importlib.util
import socket
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from diffusers_jova import ray_engine
from diffusers_jova.cli.dispatch import main
from diffusers_jova.data.settings import PreprocessingConfig
from diffusers_jova.dataset.split import SplitConfig
from diffusers_jova.engines import EngineConfig, LocalEngine, ModelEngineConfig, open_engine
from diffusers_jova.ray_engine import check_address, check_connection
from diffusers_jova.workers import Failure


class Doubling:
    """A model that doubles what was read, and notes in which batches."""

    def __init__(self):
        self.batches = []

    @contextmanager
    def load(self):
        yield 2

    def reader(self, model):
        return read

    def __call__(self, model, batch):
        self.batches.append([item for item, _ in batch])
        return [model * content for _, content in batch]


class FullCluster:
    """What `_Pool` asks of Ray, on a cluster that has no place for an actor, and time that passes while it waits."""

    def __init__(self):
        self.now_s, self.free_cpus, self.killed, self.num_actors = 0.0, 0, [], 0

    def remote(self, **options):
        return lambda kind: SimpleNamespace(remote=self.actor)

    def actor(self, *arguments):
        self.num_actors += 1
        return SimpleNamespace(start=SimpleNamespace(remote=lambda number=self.num_actors: number))

    def wait(self, references, timeout):
        self.now_s += 20
        return [], references

    def kill(self, actor):
        self.killed.append(actor)

    def available_resources(self):
        return {"CPU": self.free_cpus, "memory": 1}


@pytest.fixture
def cluster(monkeypatch):
    cluster = FullCluster()
    monkeypatch.setitem(sys.modules, "ray", cluster)
    monkeypatch.setattr(ray_engine, "time", SimpleNamespace(monotonic=lambda: cluster.now_s))
    return cluster


def read(item):
    if item == "damage":
        raise ValueError("it is damaged")
    return item + 1


@pytest.mark.parametrize(
    "config, flags, message",
    [
        (SplitConfig, {"engine": "dask"}, "`--engine` must be one of local, ray, got 'dask'"),
        (SplitConfig, {"address": "auto"}, "`--address` is for a Ray cluster: give `--engine ray`"),
        (PreprocessingConfig, {"concurrency": 2}, "`--concurrency` is for a Ray cluster"),
        (PreprocessingConfig, {"gpus_per_worker": 0.5}, "`--gpus_per_worker` is for a Ray cluster"),
        (SplitConfig, {"engine": "ray", "num_workers": 0}, "needs processes that read files"),
        (PreprocessingConfig, {"engine": "ray", "concurrency": 0}, "`--concurrency` must be 1 or more, got 0"),
        (PreprocessingConfig, {"engine": "ray", "gpus_per_worker": 1.5}, "a part of 1, or a whole number, got 1.5"),
        (PreprocessingConfig, {"engine": "ray", "gpus_per_worker": 1, "device": "cpu"}, "does not go with `--device"),
    ],
)
def test_flags_of_engines_that_do_not_go_together_are_named(config, flags, message):
    names = {"data": "films", "output_dir": "out"} | ({"model": "model"} if config is PreprocessingConfig else {})
    with pytest.raises(ValueError, match=message):
        config(**names, **flags)


def test_a_part_of_a_gpu_is_one_of_other_machines():
    config = ModelEngineConfig(engine="ray", gpus_per_worker=0.25)
    assert config.default_device() == "cuda" and config.num_gpus() == 0.25
    assert ModelEngineConfig(engine="ray", device="cuda").num_gpus() == 1
    assert ModelEngineConfig(engine="ray", device="cpu").num_gpus() == 0


def test_without_ray_its_engine_says_what_to_install(tmp_path, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "ray" else find(name, *rest))
    (tmp_path / "films").mkdir()
    command = ["split", "--data", str(tmp_path / "films"), "--output_dir", str(tmp_path / "out"), "--no_faces"]
    assert main([*command, "--engine", "ray"]) == 2
    assert "pip install 'diffusers-jova[ray]'" in capsys.readouterr().err
    assert not (tmp_path / "out" / "metadata.jsonl").exists()


def test_an_address_is_that_of_a_head_and_somebody_answers_there(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert [check_address(a) for a in (None, "auto", "head:6379", "[::1]:6379")] == [
        *(None, "auto", "head:6379", "[::1]:6379")
    ]
    for wrong in ("ray://head:10001", "head", "6379", "a head:6379"):
        with pytest.raises(ValueError, match="`--address` is HOST:PORT of the head of a Ray cluster"):
            check_address(wrong)
    monkeypatch.setenv("RAY_ADDRESS", "head:1")
    assert check_address(None) == "head:1" and check_address("other:2") == "other:2"
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        check_connection(address)
    with pytest.raises(ConnectionError, match=f"no Ray cluster at `--address {address}`.*ray status"):
        check_connection(address)


def test_batches_are_of_the_items_in_order_and_those_that_cannot_be_read_are_missing_in_them():
    doubling = Doubling()
    with open_engine(EngineConfig(), 0, print) as engine:
        assert isinstance(engine, LocalEngine)
        results = list(engine.ask(doubling, [1, "damage", 2, "damage"], batch_size=2))
    assert results == [
        (1, None, 4),
        ("damage", "it is damaged", None),
        (2, None, 6),
        ("damage", "it is damaged", None),
    ]
    assert all(isinstance(problem, Failure) for item, problem, _ in results if item == "damage")
    assert doubling.batches == [[1], [2]]


def test_a_cluster_without_a_place_is_waited_for_half_an_hour_and_the_log_says_so_once(cluster, caplog):
    with pytest.raises(RuntimeError) as caught, ray_engine._Pool(Doubling, 2, {"num_cpus": 1}) as pool:
        pool.wait_for_first()
    assert str(caught.value) == (
        "After 1800 s no doubling of the cluster is at work yet: each needs {'num_cpus': 1}, free are {'CPU': 0}. "
        "Add machines, or lower `--gpus_per_worker` or `--num_workers`."
    )
    assert cluster.now_s == 1800 and len(cluster.killed) == 2
    (warning,) = caplog.records
    assert warning.getMessage().startswith("no doubling of the cluster is at work yet")


def test_the_half_hour_begins_anew_whenever_an_actor_was_ready(cluster):
    with ray_engine._Pool(Doubling, 1, {"num_cpus": 1}) as pool:
        cluster.now_s = 1700
        pool.idle.append(pool.starting.popitem()[1])
        pool.check_waiting()
        pool.remove(pool.idle.pop())
        cluster.now_s = 3499
        pool.check_waiting()
        assert pool.waits() == 1799
        cluster.now_s = 3500
        with pytest.raises(RuntimeError, match="After 1800 s"):
            pool.check_waiting()


@pytest.mark.parametrize(
    "waits_s, free_cpus, of_model, num_left",
    [
        (30, 0, {"num_cpus": 1}, 1),
        (29, 0, {"num_cpus": 1}, 2),  # it may start yet
        (30, 1, {"num_cpus": 1}, 2),  # there is a place
        (30, 0, {"num_cpus": 0, "num_gpus": 1}, 2),  # a reader's CPU is of no use to it
    ],
)
def test_a_reader_makes_room_for_a_model_that_has_lost_its_place(cluster, waits_s, free_cpus, of_model, num_left):
    readers, models = ray_engine._Pool(Doubling, 2, {"num_cpus": 1}), ray_engine._Pool(Doubling, 1, of_model)
    with readers, models:
        readers.idle.extend(readers.starting.values())
        readers.starting.clear()
        cluster.now_s, cluster.free_cpus = waits_s, free_cpus
        for _ in range(3):  # the last reader stays
            readers.make_room_for(models)
        readers.fill()
        assert (readers.size, len(readers.idle), len(cluster.killed)) == (num_left, num_left, 2 - num_left)
        assert not readers.starting
