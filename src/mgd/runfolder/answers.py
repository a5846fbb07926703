"""Answers: what student and teacher took each measured image for, and pictures of a few of them."""

import base64
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from mgd.runfolder import names
from mgd.runfolder.files import read_json, read_rows, telling_of
from mgd.runfolder.writing import write_table, write_whole

BOTH, ONLY_TEACHER, ONLY_STUDENT, NEITHER = VERDICTS = (
    *("both right", "only the teacher right", "only the student right", "both wrong"),
)
SAME, OTHER = AGREEMENTS = ("same answer", "another answer")
MOST_SHOWN = 12
"""Images of a kind that a report shows."""
_PICTURE = re.compile(r"data:image/(?:png|jpeg);base64,[A-Za-z0-9+/]+={0,2}")


class ImageAnswer(NamedTuple):
    """The answers to one image. Probabilities are from 0 to 1, over the run's classes."""

    image: str
    """Path in the data folder; or another name, where the image is no file in it."""
    label: str | None
    """Its class; None where it is not known."""
    student: str
    """The class that the student of the best epoch takes it for."""
    student_probability: float
    teacher: str | None = None
    """None without a teacher that answers in the same classes."""
    teacher_probability: float | None = None

    @property
    def is_mistake(self) -> bool:
        """Whether the student is known to be wrong."""
        return self.label is not None and self.student != self.label

    @property
    def verdict(self) -> str | None:
        """Who is right, one of `VERDICTS`; one of `AGREEMENTS` where the class is not known.

        It is None without a teacher's answer.
        """
        if self.teacher is None:
            return None
        if self.label is None:
            return SAME if self.student == self.teacher else OTHER
        if self.student == self.label:
            return BOTH if self.teacher == self.label else ONLY_STUDENT
        return ONLY_TEACHER if self.teacher == self.label else NEITHER


# Public, as all of NamedTuple: the underscore keeps it apart from the fields.
_COLUMNS = ImageAnswer._fields


def confident_mistakes(answers: Sequence[ImageAnswer]) -> list[ImageAnswer]:
    """Returns the images that the student is most sure of and wrong, at most `MOST_SHOWN`."""
    return _most_confident([each for each in answers if each.is_mistake])[:MOST_SHOWN]


def disagreements(answers: Sequence[ImageAnswer]) -> list[ImageAnswer]:
    """Returns images that student and teacher answer otherwise, at most `MOST_SHOWN`.

    They are those that one of the two has right, of each kind in turn; where no class is known,
    all with different answers. The student's most confident answers come first.
    """
    kinds: dict[str | None, list[ImageAnswer]] = {ONLY_TEACHER: [], ONLY_STUDENT: [], OTHER: []}
    for each in answers:
        if (verdict := each.verdict) in kinds:
            kinds[verdict].append(each)
    turns = zip_longest(*(_most_confident(found) for found in kinds.values()))
    return [each for turn in turns for each in turn if each is not None][:MOST_SHOWN]


def _most_confident(answers: Sequence[ImageAnswer]) -> list[ImageAnswer]:
    finite = [each for each in answers if math.isfinite(each.student_probability)]
    return sorted(finite, key=lambda each: -each.student_probability)


def write_answers(folder: Path, answers: Sequence[ImageAnswer]) -> None:
    """Writes a CSV file with a row for each image, in their order.

    Raises:
        RunError: If it cannot be written.
    """
    rows = [dict(zip(_COLUMNS, each, strict=True)) for each in answers]
    write_table(folder / names.ANSWERS, _COLUMNS, rows)


def read_answers(folder: Path) -> list[ImageAnswer]:
    """Reads the answers of a run; none of one that has not ended, or of an earlier version.

    Raises:
        InputError: If the file cannot be read.
    """
    # A class may have the name of a folder that is not UTF-8.
    return read_rows(folder / names.ANSWERS, _answer, errors="surrogateescape")


def _answer(row: Mapping[str, str]) -> ImageAnswer:
    if missing := [name for name in _COLUMNS if row.get(name) is None]:
        raise ValueError(f"no '{missing[0]}'")
    # A class's name is in thousands of rows: one text serves all.
    label, student, teacher = (sys.intern(row[name]) for name in ("label", "student", "teacher"))
    return ImageAnswer(
        image=row["image"],
        label=label or None,
        student=student,
        student_probability=float(row["student_probability"]),
        teacher=teacher or None,
        teacher_probability=float(row["teacher_probability"]) if teacher else None,
    )


def write_thumbnails(folder: Path, pictures: Mapping[str, bytes]) -> None:
    """Writes small pictures into one JSON file, as data that a page can hold.

    Args:
        folder: Of the run.
        pictures: PNG or JPEG files by the names of their images.

    Raises:
        RunError: If it cannot be written.
    """
    found = {name: _as_data(picture) for name, picture in pictures.items()}
    text = json.dumps(found, indent=0)
    write_whole(folder / names.THUMBNAILS, lambda file: file.write(text.encode()))


def _as_data(picture: bytes) -> str:
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def read_thumbnails(folder: Path) -> dict[str, str]:
    """Reads the small pictures of a run, by the names of their images; none where there are none.

    Raises:
        InputError: If the file cannot be read, or holds anything but pictures.
    """
    path = folder / names.THUMBNAILS
    with telling_of(path):
        found = read_json(path) if path.is_file() else {}
        for name, picture in found.items():
            if not isinstance(picture, str) or not _PICTURE.fullmatch(picture):
                raise ValueError(f"{name!r} is no picture")
        return found
