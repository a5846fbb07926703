"""AnswerStore: rows are never another key's, are written once, and are on the disk once saved."""

import errno
import os

import numpy as np
import pytest

from mgd.engine.tasks.answer_store import AnswerStore, Field
from mgd.errors import InputError

FIELDS = {"logits": Field((2,), "float16"), "point_1": Field((3, 1, 1), "float16")}
KEY = {"teacher": "a", "seed": 1}


def store(home, key=KEY, views=2, images=5, fields=FIELDS):
    return AnswerStore(home, key, views, images, fields)


@pytest.fixture
def opened(tmp_path):
    made = store(tmp_path)
    made.open()
    yield made
    made.close()


def rows(*values):
    start, more = np.array(values, dtype="float16")[:, None], np.array([0, 0.5])
    return {
        "logits": start + more,
        "point_1": start[:, :, None, None] + np.ones((3, 1, 1)),
    }


def assert_rows(found, wanted):
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name].reshape(values.shape), values)


def wanted(*values):
    return {name: each.astype("float16") for name, each in rows(*values).items()}


def test_rows_come_back_for_the_view_and_the_images_that_they_are_of(opened):
    opened.write(1, [3, 0], rows(3, 10))
    assert opened.missing(1, [0, 1, 3]).tolist() == [False, True, False]
    assert opened.missing(0, [0, 3]).all()
    assert_rows(opened.read(1, [0, 3]), wanted(10, 3))


def test_a_row_is_written_once(opened):
    opened.write(0, [1, 2], rows(1, 2))
    opened.write(0, [2, 3], rows(20, 30))
    assert_rows(opened.read(0, [1, 2, 3]), wanted(1, 2, 30))


def test_what_was_saved_is_there_and_what_was_not_is_asked_for_again(opened, tmp_path):
    opened.write(0, [1], rows(1))
    opened.save()
    opened.write(0, [2], rows(2))
    opened.write(1, [1], rows(3))
    opened.close()
    again = store(tmp_path, views=3)  # a view more, which changes nothing for the others
    again.open()
    assert [again.missing(view, range(5)).tolist().count(False) for view in range(3)] == [1, 0, 0]
    assert_rows(again.read(0, [1]), wanted(1))
    again.close()


def test_numpy_reads_the_files(opened):
    opened.write(1, [4], rows(4))
    opened.save()
    assert np.load(opened.folder / "view-1" / "logits.npy")[4].tolist() == [4, 4.5]
    assert np.load(opened.folder / "view-1" / "kept.npy").tolist() == [False] * 4 + [True]


def test_the_size_is_that_of_the_rows(opened):
    assert opened.num_bytes() == 2 * 5 * (2 * 2 + 3 * 2 + 1)
    assert opened.num_bytes(["point_1"]) == 2 * 5 * 3 * 2
    file = opened.folder / "view-0" / "point_1.npy"
    assert file.stat().st_blocks * 512 >= 5 * 3 * 2


@pytest.mark.parametrize(
    "other",
    [
        {"key": {**KEY, "teacher": "b"}},
        {"key": {**KEY, "seed": 2}},
        {"images": 6},
        {"fields": {**FIELDS, "logits": Field((3,), "float16")}},
    ],
)
def test_another_key_has_another_folder(opened, tmp_path, other):
    assert store(tmp_path, **other).folder != opened.folder
    assert store(tmp_path).folder == opened.folder


def test_a_folder_of_another_key_is_refused(opened):
    opened.close()
    key = opened.folder / "key.json"
    key.write_text(key.read_text().replace('"a"', '"b"'))
    with pytest.raises(InputError, match="of other images, another teacher or other options"):
        opened.open()


def test_another_process_is_kept_out(opened, tmp_path):
    with pytest.raises(InputError, match=r"kept answers '.*' is in use by another run; wait, or"):
        store(tmp_path).open()
    opened.close()
    again = store(tmp_path)
    again.open()
    again.close()


@pytest.mark.parametrize("content", [b"", b"no array", "of another shape"])
def test_a_damaged_file_is_told_of(opened, tmp_path, content):
    opened.close()
    path = opened.folder / "view-0" / "logits.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, np.zeros((4, 2), "float16"))
    with pytest.raises(InputError, match=r"cannot be kept in .*; make room, remove the folder"):
        opened.open()
    assert not opened.is_open


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system cannot reserve space")
def test_a_full_disk_is_told_of_and_nothing_is_left(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    made = store(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(InputError, match="No space left on device"):
            made.open()
    assert not list(made.folder.glob("view-*"))
    made.close()
    made.open()
    made.close()


def test_a_place_that_cannot_be_written_is_told_of(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="name another with `teacher_views_dir`"):
        store(tmp_path / "file").open()
