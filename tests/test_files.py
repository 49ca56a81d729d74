# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
import errno
import os
import re
import signal

import pytest
from safetensors import SafetensorError

from diffusers_jova import files
from diffusers_jova.files import (
    InUseError,
    check_output,
    clear_leftovers,
    lock_folder,
    lock_holder,
    partial_folder,
    whole_file,
    whole_folder,
)


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# --- whole or not at all ---


@pytest.mark.parametrize("writer", [None, "", "0-1"])
def test_a_file_appears_when_the_block_ends_and_not_if_it_fails(tmp_path, writer):
    path = tmp_path / "a.txt"
    with pytest.raises(KeyError), whole_file(path, writer) as partial:
        partial.write_text("half")
        raise KeyError
    assert names(tmp_path) == []
    with whole_file(path, writer) as partial:
        partial.write_text("whole")
        assert partial.suffix == ".txt" and not path.exists()
    assert names(tmp_path) == ["a.txt"] and path.read_text() == "whole"


def test_names_of_255_bytes_are_written(tmp_path):
    path = tmp_path / ("ä" * 125 + ".json")
    with whole_file(path) as partial:
        partial.write_text("x")
    with whole_folder(tmp_path / ("b" * 255)):
        pass
    assert names(tmp_path) == ["b" * 255, path.name]


def test_what_a_killed_run_left_of_a_file_goes_with_the_next_run(tmp_path, hold):
    path = tmp_path / "clip.mp4"
    for process in [hold(f"whole_file({str(path)!r})", "partial.write_text('half')") for _ in range(2)]:
        kill(process)
    assert len(names(tmp_path)) == 2 and not path.exists()
    with whole_file(path) as partial:
        partial.write_text("whole")
    assert names(tmp_path) == ["clip.mp4"]


def test_several_processes_may_write_one_file_and_none_removes_the_others_half(tmp_path, hold):
    path = tmp_path / "clip.mp4"
    other = hold(f"whole_file({str(path)!r})", "partial.write_text('half')")
    before = names(tmp_path)
    with whole_file(path) as partial:
        partial.write_text("mine")
    assert names(tmp_path) == [*before, "clip.mp4"]
    kill(other)


def test_a_folder_appears_when_the_block_ends_and_not_if_it_fails(tmp_path):
    path = tmp_path / "model"
    with pytest.raises(KeyError), whole_folder(path) as partial:
        (partial / "weights").write_text("half")
        raise KeyError
    assert names(tmp_path) == []
    with whole_folder(path) as partial:
        (partial / "weights").write_text("1")
    with pytest.raises(FileExistsError, match="model` exists already"), whole_folder(path):
        raise AssertionError("not reached")
    with whole_folder(path, overwrite=True) as partial:
        (partial / "other").write_text("2")
    assert names(tmp_path) == ["model"] and names(path) == ["other"]


def test_a_failed_overwrite_keeps_the_old_folder(tmp_path, monkeypatch):
    path = tmp_path / "model"
    path.mkdir()
    (path / "weights").write_text("old")
    replace = os.replace

    def fail_to_name_the_new_one(source, target):
        if os.fspath(target) == os.fspath(path) and ".replaced" not in os.fspath(source):
            raise OSError(errno.EIO, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_to_name_the_new_one)
    with pytest.raises(OSError, match="fault of its own"), whole_folder(path, overwrite=True):
        pass
    assert names(tmp_path) == ["model"] and (path / "weights").read_text() == "old"


def test_a_folder_whose_replacement_was_killed_between_two_names_comes_back(tmp_path, hold):
    path = tmp_path / "model"
    path.mkdir()
    (path / "weights").write_text("old")
    work = f"Path({str(path)!r}).rename(partial.with_name('.replaced'))"
    kill(hold(f"whole_folder({str(path)!r}, overwrite=True)", work))
    assert not path.exists()
    with pytest.raises(KeyError), whole_folder(path, overwrite=True):
        raise KeyError
    assert names(tmp_path) == ["model"] and (path / "weights").read_text() == "old"


def test_two_runs_do_not_write_one_folder_and_a_killed_one_is_no_hindrance(tmp_path, hold):
    path = tmp_path / "model"
    other = hold(f"whole_folder({str(path)!r})", "(partial / 'half').touch()")
    with pytest.raises(InUseError, match=rf"another run \(pid {other.pid} on .*\) is at work in `{path}`"):
        with whole_folder(path):
            raise AssertionError("not reached")
    kill(other)
    with whole_folder(path) as partial:
        assert names(partial) == []
    assert names(tmp_path) == ["model"] and names(path) == []


def test_leftovers_go_and_a_folder_that_was_being_replaced_comes_back(tmp_path, hold):
    for name in ("step-1", "step-2", "model"):
        kill(hold(f"whole_folder({str(tmp_path / name)!r})", "(partial / 'half').touch()"))
    (tmp_path / ".step-1.partial" / ".replaced").mkdir()
    (tmp_path / ".step-3.removed").mkdir()
    clear_leftovers(tmp_path, "step-*")
    assert names(tmp_path) == [".model.partial", "step-1"] and names(tmp_path / "step-1") == []


def test_other_processes_of_a_run_know_the_folder_that_is_filled(tmp_path):
    with whole_folder(tmp_path / "a") as partial:
        (partial_folder(tmp_path / "a") / "of_another").touch()
        assert partial_folder(tmp_path / "a") == partial
    assert names(tmp_path / "a") == ["of_another"]


def test_content_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda *args: (events.append("named"), replace(*args)))
    with whole_file(tmp_path / "a", "") as partial:
        partial.touch()
    assert events == [str(partial), "named"]
    events.clear()
    with whole_folder(tmp_path / "b") as partial:
        (partial / "c").touch()
    assert events == [str(partial / "c"), str(partial), "named", str(tmp_path)]


# --- errors ---


@pytest.mark.parametrize(
    "error, why",
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full.*: free some space"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "quota.*: delete some of your files"),
        (OSError(errno.EROFS, "Read-only file system"), "read-only"),
        (PermissionError(errno.EACCES, "Permission denied"), "correct the permissions"),
        (PermissionError(errno.EPERM, "Operation not permitted"), "correct the permissions"),
        (OSError(errno.ENAMETOOLONG, "File name too long"), "choose a shorter one"),
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
        (OSError(errno.EIO, "Input/output error"), "check it, or choose another disk"),
        (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), "free some"),
        (OSError("something else"), "something else"),
    ],
)
def test_an_error_of_the_disk_says_what_to_do_and_only_a_full_one_asks_for_space(tmp_path, error, why):
    with pytest.raises(OSError, match=f"Cannot write `.*a.txt`: .*{why}") as raised, whole_file(tmp_path / "a.txt"):
        raise error
    assert ("free some space" in str(raised.value)) == ("28" in str(error))
    assert "start the same command again" in str(raised.value)
    assert names(tmp_path) == []


def test_an_error_without_a_number_on_a_full_disk_is_a_full_disk(tmp_path, monkeypatch):
    usage = files.shutil.disk_usage(tmp_path)._replace(free=4096)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: usage)
    assert "the disk is full" in str(files.write_error(tmp_path / "a", RuntimeError("PytorchStreamWriter failed")))


# --- one run at a time ---


def test_a_second_run_is_told_who_is_at_work_and_a_killed_one_gives_the_lock_back(tmp_path, hold):
    folder = tmp_path / "out"
    other = hold(f"lock_folder({str(folder)!r})")
    with pytest.raises(InUseError) as raised, lock_folder(folder):
        raise AssertionError("not reached")
    host = re.escape(os.uname().nodename)
    assert re.search(rf"another run \(pid {other.pid} on {host}, since \d{{4}}-.*\) is at work in", str(raised.value))
    assert f"pid {other.pid}" in lock_holder(folder)
    kill(other)
    assert lock_holder(folder) is None and names(folder) == []
    with lock_folder(folder):
        (folder / "result").touch()
    assert names(folder) == ["result"]


def test_runs_with_locks_of_their_own_work_side_by_side(tmp_path, hold):
    hold(f"lock_folder({str(tmp_path)!r}, 'shard-0')")
    with lock_folder(tmp_path, "shard-1"):
        assert lock_holder(tmp_path, "shard-0") and lock_holder(tmp_path, "shard-1")
    assert lock_holder(tmp_path, "shard-1") is None


def test_a_process_does_not_lock_itself_out(tmp_path):
    with lock_folder(tmp_path / "a"), lock_folder(tmp_path / "a"):
        assert (tmp_path / "a" / ".run.lock").exists()
    assert names(tmp_path) == []


def test_children_of_a_killed_run_do_not_keep_its_lock(tmp_path, hold):
    # the child says itself that it lives: by then it has given up its part in the lock
    work = (
        "import os; reader, writer = os.pipe(); child = os.fork(); "
        f"child or (Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid())), os.close(writer), time.sleep(600)); "
        "os.close(writer); os.read(reader, 1)"
    )
    process = hold(f"lock_folder({str(tmp_path)!r})", work)
    child = int((tmp_path / "pid").read_text())
    kill(process)
    try:
        with lock_folder(tmp_path):
            os.kill(child, 0)  # it lives, and has no part in the lock
    finally:
        os.kill(child, signal.SIGKILL)


# --- outputs are not inputs ---


def test_an_output_that_is_in_or_around_an_input_is_refused_however_it_is_spelled(tmp_path, monkeypatch):
    model = tmp_path / "models" / "nano"
    (model / "vae").mkdir(parents=True)
    (tmp_path / "link").symlink_to(model)
    monkeypatch.chdir(tmp_path)
    for output, relation in {
        model: "is",
        "models/../models/nano/": "is",
        tmp_path / "link": "is",
        model / "vae": "lies in",
        "link/new": "lies in",
        "models": "holds",
    }.items():
        with pytest.raises(ValueError, match=f"{relation} the model, .*choose another output"):
            check_output(output, {"the model": model})
    check_output("models/other", {"the model": model, "no model": None, "the Hub's": "org/name"})
    check_output("models/nano2", {"the model": model})


def test_a_hard_link_to_an_input_is_refused(tmp_path):
    (tmp_path / "a").write_text("input")
    os.link(tmp_path / "a", tmp_path / "b")
    with pytest.raises(ValueError, match="is the clip"):
        check_output(tmp_path / "b", {"the clip": tmp_path / "a"})
