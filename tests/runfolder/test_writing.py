"""Writing: the old file or the new one, never a part, on every system."""

import os

import pytest

from mgd.errors import InputError, RunError
from mgd.runfolder import remove_leftovers, write_bad_images, write_whole, writing


def put(path, content, **options):
    write_whole(path, lambda file: file.write(content), **options)


def fail(file):
    file.write(b"half")
    raise OSError(28, "No space left on device")


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path):
    put(tmp_path / "file", b"old")
    put(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_a_write_that_fails_halfway_leaves_the_old_file_and_no_other(tmp_path):
    put(tmp_path / "file", b"old")
    with pytest.raises(RunError, match=r"cannot write '.*file' \(.*No space left on device\); "):
        write_whole(tmp_path / "file", fail, previous=tmp_path / "before")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_flush_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    put(tmp_path / "file", b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="No space left"):
        put(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_whole_file_has_the_name_during_the_write(tmp_path):
    path, seen = tmp_path / "file", []

    def write(file):
        seen.append(path.read_bytes())
        file.write(b"new")

    put(path, b"old")
    write_whole(path, write)
    assert seen == [b"old"]


def test_the_content_is_on_the_disk_before_it_has_the_name(tmp_path, monkeypatch):
    order, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (order.append("flush"), fsync(file))[1])
    monkeypatch.setattr(os, "replace", lambda *names: (order.append("name"), replace(*names))[1])
    put(tmp_path / "file", b"new")
    assert order == ["flush", "name", "flush"]  # the last one is that of the folder


def test_the_replaced_file_is_kept_where_asked_for(tmp_path):
    for content in (b"1", b"2", b"3"):
        put(tmp_path / "file", content, previous=tmp_path / "before")
    assert (tmp_path / "file").read_bytes() == b"3"
    assert (tmp_path / "before").read_bytes() == b"2"
    assert sorted(os.listdir(tmp_path)) == ["before", "file"]


def test_it_is_kept_without_hard_links_too(tmp_path, monkeypatch):
    def none(*names, **options):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", none)
    for content in (b"1", b"2", b"3"):
        put(tmp_path / "file", content, previous=tmp_path / "before")
    assert (tmp_path / "file").read_bytes() == b"3"
    assert (tmp_path / "before").read_bytes() == b"2"


def refuse_folders(monkeypatch):
    """Has `os.open` refuse folders, as it does on Windows."""
    real = os.open

    def refuse(path, *arguments, **options):
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)


def test_where_no_folder_can_be_opened_none_is(tmp_path, monkeypatch):
    refuse_folders(monkeypatch)
    with pytest.raises(RunError, match="Permission denied"):
        put(tmp_path / "file", b"new")
    monkeypatch.setattr(writing, "_FOLDERS_CAN_BE_FLUSHED", False)
    put(tmp_path / "other", b"new")
    assert (tmp_path / "other").read_bytes() == b"new"


def test_only_temporary_files_are_leftovers(tmp_path):
    kept = [".lock", ".last.ckpt", "last.ckpt.0123456789abcdef", ".a.0123456789abcde"]
    for name in [*kept, ".last.ckpt.0123456789abcdef"]:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(kept)


def test_a_leftover_that_cannot_be_removed_is_one_line(tmp_path):
    (tmp_path / ".last.ckpt.0123456789abcdef").mkdir()
    with pytest.raises(InputError, match=r"cannot write to .*; choose another --output"):
        remove_leftovers(tmp_path)


def test_names_that_are_not_utf8_keep_their_bytes(tmp_path):
    name = os.fsdecode(b"\xff\xfe")
    said = write_bad_images(tmp_path, [f"{name}.png: cut\nshort", "b.png: empty"])
    path = tmp_path / "bad_images.txt"
    assert said == f"2 unreadable images left out, listed in {path}"
    assert path.read_bytes() == b"\xff\xfe.png: cut short\nb.png: empty\n"
