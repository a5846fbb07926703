"""Starts: each one is added to those before it, and a folder without any is read."""

import pytest

from mgd.errors import InputError
from mgd.runfolder import RunFolder, read_run, read_starts
from recorded import COLUMNS, OPTIONS, a_start, an_epoch


@pytest.fixture
def writer(tmp_path):
    folder = RunFolder(tmp_path, OPTIONS, COLUMNS)
    yield folder
    folder.close()


def test_every_start_is_kept_in_order(writer):
    starts = [
        a_start(),
        a_start(3, step=7, command=[], devices=[], commit=None),
        a_start(4, command=["mgd", "train", "half\udcff", "日本", 'a "b"\n$c']),
    ]
    for start in starts:
        writer.add_start(start)
    assert read_starts(writer.path) == starts
    writer.add_epoch(an_epoch())
    assert read_run(writer.path).starts == starts


def test_a_run_of_an_earlier_version_has_no_starts(writer):
    writer.add_epoch(an_epoch())
    assert read_run(writer.path).starts == []
    writer.add_start(a_start(1))
    assert read_run(writer.path).starts == [a_start(1)]


def test_what_a_later_version_adds_is_ignored(writer):
    writer.add_start(a_start())
    file = writer.path / "environment.json"
    file.write_text(file.read_text().replace('"cores"', '"weather": "fine", "cores"'))
    assert read_starts(writer.path) == [a_start()]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"starts"', '"ends"', "'starts' is no list of starts"),
        (": 8", ': "many"', "'cores' is 'many', not a number"),
        ('"mgd",', "1,", "'command' is no list of texts"),
        ('"0.2.0"', "2", "'versions' is no table of texts"),
        ('"Linux-6"', "null", "no 'system'"),
        ("{", "", "Extra data"),
    ],
)
def test_a_damaged_file_of_starts_is_one_line(writer, old, new, reason):
    writer.add_start(a_start())
    file = writer.path / "environment.json"
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(InputError, match=r"environment\.json: ") as caught:
        read_starts(writer.path)
    assert reason in str(caught.value)
