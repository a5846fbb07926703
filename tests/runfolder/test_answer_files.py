"""Answers of a run: they come back as they were written, and what is shown is chosen by them."""

import json
import os

import pytest

from mgd.errors import InputError
from mgd.runfolder import (
    ImageAnswer,
    RunFolder,
    confident_mistakes,
    disagreements,
    read_answers,
    read_thumbnails,
    write_answers,
    write_thumbnails,
)
from mgd.runfolder.answers import (
    BOTH,
    MOST_SHOWN,
    NEITHER,
    ONLY_STUDENT,
    ONLY_TEACHER,
    OTHER,
    SAME,
)
from recorded import COLUMNS, OPTIONS

PNG = b"\x89PNG and more"
HOSTILE = 'a,"b"\r\n<script>\udcff日本 '


def answer(label, student, teacher=None, share=0.5, image="i"):
    return ImageAnswer(image, label, student, share, teacher, None if teacher is None else 0.25)


def test_answers_come_back_as_they_were_written(tmp_path):
    answers = [
        ImageAnswer("valid/cat/1.png", "cat", "dog", 0.12345, "cat", 1.0),
        ImageAnswer(f"valid/{HOSTILE}/1.png", HOSTILE, HOSTILE, 1e-5, HOSTILE, 0.1 + 0.2),
        ImageAnswer("image 3", None, "dog", 1.0),
    ]
    write_answers(tmp_path, answers)
    assert read_answers(tmp_path) == answers


def test_the_file_is_a_plain_table(tmp_path):
    write_answers(tmp_path, [answer("cat", "dog", "cat"), answer(None, "dog")])
    assert (tmp_path / "answers.csv").read_text() == (
        "image,label,student,student_probability,teacher,teacher_probability\n"
        "i,cat,dog,0.5,cat,0.25\n"
        "i,,dog,0.5,,\n"
    )


def test_a_folder_of_an_earlier_version_has_none(tmp_path):
    RunFolder(tmp_path, OPTIONS, COLUMNS).close()
    assert read_answers(tmp_path) == []
    assert read_thumbnails(tmp_path) == {}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"image,label\na,b\n", "no 'student'"),
        (b"image,label,student,student_probability,teacher,teacher_probability\na,b\n", "no 'st"),
        (
            b"image,label,student,student_probability,teacher,teacher_probability\na,b,c,d,,\n",
            "could not convert string to float",
        ),
    ],
)
def test_a_damaged_table_is_one_line(tmp_path, content, reason):
    (tmp_path / "answers.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"answers\.csv: ") as caught:
        read_answers(tmp_path)
    assert reason in str(caught.value)


def test_pictures_come_back_as_data(tmp_path):
    write_thumbnails(tmp_path, {HOSTILE: PNG, "b": b"\xff\xd8 a photograph"})
    found = read_thumbnails(tmp_path)
    assert list(found) == [HOSTILE, "b"]
    assert found[HOSTILE].startswith("data:image/png;base64,iVBO")
    assert found["b"].startswith("data:image/jpeg;base64,/9g")


@pytest.mark.parametrize(
    "forged",
    [
        "https://example.org/a.png",
        "data:text/html;base64,aGk=",
        'data:image/png;base64,aGk="><script>',
        "data:image/svg+xml;base64,aGk=",
        "data:image/png;base64,aGk=\n",
        1,
    ],
)
def test_what_is_no_picture_is_refused(tmp_path, forged):
    (tmp_path / "thumbnails.json").write_text(json.dumps({"a": forged}))
    with pytest.raises(InputError, match=r"thumbnails\.json: 'a' is no picture"):
        read_thumbnails(tmp_path)


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        (("a", "a", "a"), BOTH),
        (("a", "b", "a"), ONLY_TEACHER),
        (("a", "a", "b"), ONLY_STUDENT),
        (("a", "b", "b"), NEITHER),
        (("a", "b", "c"), NEITHER),
        ((None, "a", "a"), SAME),
        ((None, "a", "b"), OTHER),
        (("a", "a", None), None),
    ],
)
def test_verdicts(given, verdict):
    assert answer(*given).verdict == verdict


def test_the_most_confident_mistakes_come_first():
    answers = [answer("a", "b", share=share) for share in (0.2, 0.9, float("nan"), 0.5)]
    answers += [answer("a", "a", share=1.0), answer(None, "b", share=1.0)]
    assert [each.student_probability for each in confident_mistakes(answers)] == [0.9, 0.5, 0.2]
    many = [answer("a", "b", share=0.5, image=str(i)) for i in range(50)]
    assert confident_mistakes(many) == many[:MOST_SHOWN]


def test_disagreements_are_of_each_kind_in_turn():
    answers = [
        answer("a", "a", "b", 0.3, "student right"),
        answer("a", "b", "a", 0.9, "teacher right"),
        answer("a", "a", "b", 0.7, "student surer"),
        answer("a", "b", "c", 1.0, "both wrong"),
        answer("a", "a", "a", 1.0, "both right"),
        answer("a", "b", "a", 0.1, "teacher right, unsure"),
    ]
    assert [each.image for each in disagreements(answers)] == [
        "teacher right", "student surer", "teacher right, unsure", "student right",
    ]  # fmt: skip
    one_sided = [answer("a", "b", "a", image=str(i)) for i in range(50)]
    assert len(disagreements(one_sided)) == MOST_SHOWN


def test_without_labels_every_other_answer_is_a_disagreement():
    answers = [answer(None, "a", "b"), answer(None, "a", "a"), answer(None, "a")]
    assert disagreements(answers) == answers[:1]


def test_files_are_replaced_as_a_whole(tmp_path):
    for _ in range(2):
        write_answers(tmp_path, [answer("a", "b")])
        write_thumbnails(tmp_path, {})
    assert sorted(os.listdir(tmp_path)) == ["answers.csv", "thumbnails.json"]
