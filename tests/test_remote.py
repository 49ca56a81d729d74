# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Files that fsspec reaches, in its memory file system."""

import pytest

from diffusers_jova.files import is_remote
from diffusers_jova.remote import RemotePath, is_copy, local_file, local_folder, members_of, place_of


pytestmark = pytest.mark.usefixtures("store")


def test_a_url_is_no_path_of_this_machine():
    assert [is_remote(path) for path in ("s3://b/x", "tar://a::/b.tar", "a.mp4", "file:///a", "C:\\a", "org/set")] == [
        True, True, False, False, False, False,
    ]  # fmt: skip
    path = place_of("s3://bucket/films/talk.mp4")
    assert (path.name, path.suffix, str(path.parent / "../other.mp4")) == ("talk.mp4", ".mp4", "s3://bucket/other.mp4")


def test_a_file_is_copied_once_and_again_when_it_has_changed(store):
    store.pipe("/films/a.mp4", b"one")
    store.pipe("/films/sub/.hidden", b"")
    (name, path), *rest = RemotePath("memory://films").files().items()
    assert name == "a.mp4" and not rest
    with local_file(path) as first:
        assert first.read_bytes() == b"one" and first.suffix == ".mp4"
        store.pipe("/films/a.mp4", b"two")
        with local_file(path) as second:
            assert (first.read_bytes(), second.read_bytes()) == (b"one", b"two")  # what is in use stays
    with local_file(path) as again:
        assert again == second and not first.exists()


def test_a_store_whose_paths_begin_at_its_root_is_listed_from_there(tmp_path):
    (tmp_path / "films" / "sub").mkdir(parents=True)
    (tmp_path / "films" / "sub" / "a.mp4").write_bytes(b"one")
    place = place_of(f"local://{tmp_path}/films/")  # as sftp:// has them, of which there is no server here
    assert {name: path.read_text() for name, path in place.files().items()} == {"sub/a.mp4": "one"}


def test_an_output_folder_is_written_whole_and_goes_on_from_what_is_there(store, monkeypatch):
    store.pipe("/out/journal.jsonl", b"1\n")
    store.pipe("/out/old.txt", b"")
    order = []
    put = RemotePath.put
    monkeypatch.setattr(RemotePath, "put", lambda self, local: order.append(self.name) or put(self, local))
    with local_folder("memory://out") as folder:
        assert is_copy(folder)
        with open(folder / "journal.jsonl", "a") as file:
            file.write("2\n")
        (folder / "metadata.jsonl").write_text("row\n")
        (folder / "sub").mkdir()
        (folder / "sub" / "x").write_text("x")
        (folder / "old.txt").unlink()
    assert order == ["journal.jsonl", "x", "metadata.jsonl"]
    assert store.cat("/out/journal.jsonl") == b"1\n2\n" and store.cat("/out/sub/x") == b"x"
    assert {path.rpartition("/")[2] for path in store.find("/out")} == {"journal.jsonl", "metadata.jsonl", "x"}
    with local_folder("memory://out") as folder:  # nothing has changed
        assert not is_copy("elsewhere")
    assert len(order) == 3


def test_what_could_not_be_written_there_is_kept_and_written_by_the_next_run(store, monkeypatch):
    def lost(self, local):
        raise OSError("connection reset")

    with (
        monkeypatch.context() as patch,
        pytest.raises(OSError, match="reset. All of it is kept in `.*`: correct that"),
    ):
        patch.setattr(RemotePath, "put", lost)
        with local_folder("memory://out") as folder:
            (folder / "films.jsonl").write_text("found out\n")
    with local_folder("memory://out"):
        pass
    assert store.cat("/out/films.jsonl") == b"found out\n"


def test_a_store_without_its_package_or_of_no_name_says_so():
    with pytest.raises(ImportError, match="`sftp://h/x` needs a package that is not installed: .* \\(pip install\\)"):
        RemotePath("sftp://h/x").is_file()
    with pytest.raises(OSError, match="`nowhere://x` cannot be reached now"):
        RemotePath("nowhere://x").is_file()
    with pytest.raises(FileNotFoundError, match="There is no folder or file `memory://nothing`"):
        RemotePath("memory://nothing").files()


def test_what_is_no_tar_is_refused(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"not a tar, but long enough to be looked at" * 100)
    with pytest.raises(ValueError, match="it is not a whole tar"):
        members_of(tmp_path / "a.tar")
