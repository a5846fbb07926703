"""Evaluations: what is written is read back, and no earlier one is lost."""

import csv
import json
import os

import pytest

from mgd.errors import InputError
from mgd.runfolder import (
    Evaluation,
    MeasuredNetwork,
    free_folder,
    is_evaluation,
    read_evaluation,
    write_evaluation,
)


def measured(role="student", **values):
    plain = {"arch": "net", "weights": "a.pth", "sha256": "ab12", "view": "32 px", "images": 5}
    return MeasuredNetwork(
        role=role, **{**plain, "top1": 40.0, "top5": 100.0, "loss": 1.5, **values}
    )


def write(folder, classes=("cat", "dog"), counts=((1, 4), (1, 1))):
    folder.mkdir(exist_ok=True)
    found = Evaluation(folder=folder, data="photos", networks=[measured(), measured("teacher")])
    confusion = [(0, 0, 1), (0, 1, 3), (1, 1, 1)]
    write_evaluation(found, classes, [counts, counts], [confusion, confusion])
    return found


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_what_is_written_is_read(tmp_path):
    assert not is_evaluation(tmp_path)
    assert write(tmp_path) == read_evaluation(str(tmp_path))
    assert is_evaluation(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["confusion.csv", "evaluation.json", "per_class.csv"]


def test_confusions_are_named_by_network_class_and_answer(tmp_path):
    write(tmp_path)
    rows = rows_of(tmp_path / "confusion.csv")
    assert rows[:3] == [
        ["network", "class", "answer", "images"],
        ["student", "cat", "cat", "1"],
        ["student", "cat", "dog", "3"],
    ]
    assert [row[0] for row in rows[1:]] == ["student"] * 3 + ["teacher"] * 3


def test_classes_of_any_name_have_their_row(tmp_path):
    write(tmp_path, ['a,"b"', "naïve 猫", "<script>"], [(1, 4), (1, 1), (0, 0)])
    assert rows_of(tmp_path / "per_class.csv") == [
        ["class", "images", "student_top1", "teacher_top1"],
        ['a,"b"', "4", "25.00", "25.00"],
        ["naïve 猫", "1", "100.00", "100.00"],
        ["<script>", "0", "", ""],
    ]


def test_class_names_that_are_not_utf8_keep_their_bytes(tmp_path):
    write(tmp_path, [os.fsdecode(b"\xff\xfe"), "dog"])
    assert b"\n\xff\xfe,4,25.00,25.00\n" in (tmp_path / "per_class.csv").read_bytes()
    assert b"\nstudent,\xff\xfe,\xff\xfe,1\n" in (tmp_path / "confusion.csv").read_bytes()


def test_a_name_that_is_taken_gets_a_number(tmp_path):
    names = [free_folder(tmp_path / "runs", "evaluate-net").name for _ in range(3)]
    assert names == ["evaluate-net", "evaluate-net-2", "evaluate-net-3"]
    (tmp_path / "runs" / "file").touch()
    assert free_folder(tmp_path / "runs", "file").name == "file-2"


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write to '.*file/net'.*choose another --output"):
        free_folder(tmp_path / "file", "net")


GOOD = {"data": "photos", "networks": [vars(measured())]}
DAMAGED = {
    "text": "{",
    "a list": "[]",
    "no network": json.dumps({**GOOD, "networks": []}),
    "networks are a mapping": json.dumps({**GOOD, "networks": {}}),
    "a network is a list": json.dumps({**GOOD, "networks": [[1]]}),
    "no data": json.dumps({"networks": GOOD["networks"]}),
    "a value more": json.dumps({**GOOD, "networks": [{**GOOD["networks"][0], "more": 1}]}),
    "a value less": json.dumps({**GOOD, "networks": [{"role": "student"}]}),
    "top1 is text": json.dumps({**GOOD, "networks": [{**GOOD["networks"][0], "top1": "40"}]}),
    "images are true": json.dumps({**GOOD, "networks": [{**GOOD["networks"][0], "images": True}]}),
    "arch is a list": json.dumps({**GOOD, "networks": [{**GOOD["networks"][0], "arch": ["a"]}]}),
}


@pytest.mark.parametrize("fault", DAMAGED)
def test_a_damaged_file_is_one_line_that_names_it(tmp_path, fault):
    (tmp_path / "evaluation.json").write_text(DAMAGED[fault])
    with pytest.raises(InputError, match=r"evaluation\.json: ") as caught:
        read_evaluation(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_file_of_the_damaged_ones_is_read_where_it_is_whole(tmp_path):
    (tmp_path / "evaluation.json").write_text(json.dumps(GOOD))
    assert read_evaluation(tmp_path).networks == [measured()]


def test_a_folder_without_an_evaluation_is_one_line(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_evaluation(tmp_path)
