"""Answers: what student and teacher take every measured image for, kept at the end of a run."""

import io
from pathlib import Path

from PIL.Image import Image, Resampling
from torchvision.transforms.v2.functional import to_pil_image

from mgd.data.splits import Split
from mgd.engine.loop.evaluation import Answers, Scores
from mgd.engine.loop.pipeline import Part, Pipeline
from mgd.runfolder import (
    ImageAnswer,
    confident_mistakes,
    disagreements,
    write_answers,
    write_thumbnails,
)

SIDE = 72
"""Longest side of a thumbnail, in pixels."""
_LOSSLESS = 32
"""Up to this side a PNG file is as small as a JPEG file, whose blocks would be seen."""

_DECIMALS = 5
"""Of probabilities, so that the file is small; a reader then has the same order as the run."""


def keep_answers(
    folder: Path,
    pipeline: Pipeline,
    part: Part,
    student: Scores,
    teacher: Scores | None,
    data: str,
) -> None:
    """Writes the answers to every image of a part, and thumbnails of those that a report shows.

    Args:
        folder: Of the run.
        pipeline: Its data.
        part: What was measured.
        student: With its answers.
        teacher: With its answers, if its outputs are the run's classes.
        data: The folder that the images are in.

    Raises:
        RunError: If a file cannot be written.
    """
    split = pipeline.splits.valid if part == "valid" else pipeline.splits.test
    assert split is not None
    assert student.answers is not None
    has_labels = part == "test" or not pipeline.is_label_free
    taught = teacher.answers if teacher is not None else None
    if not has_labels:
        taught = pipeline.teachers
    classes = pipeline.splits.classes
    answers = answers_by_name(split, data, classes, student.answers, taught, has_labels)
    write_answers(folder, answers)
    shown = {*confident_mistakes(answers), *disagreements(answers)}
    numbers = [number for number, answer in enumerate(answers) if answer in shown]
    pictures = {answers[number].image: thumbnail(split, number) for number in numbers}
    write_thumbnails(folder, pictures)


def answers_by_name(
    split: Split,
    data: str,
    classes: list[str],
    student: Answers,
    teacher: Answers | None,
    has_labels: bool,
) -> list[ImageAnswer]:
    """Returns the answers to each image, by the names of images and classes.

    Args:
        split: The images.
        data: The folder that they are in.
        classes: Names of the classes.
        student: Its answers.
        teacher: Its answers, if there are any.
        has_labels: Whether the labels of the split are known, and not the teacher's answers.
    """
    found = []
    for number, label in enumerate(split.labels):
        found.append(
            ImageAnswer(
                image=_inside(data, split.name(number)),
                label=classes[label] if has_labels and label >= 0 else None,
                student=classes[student.classes[number]],
                student_probability=round(student.probabilities[number], _DECIMALS),
                teacher=classes[teacher.classes[number]] if teacher else None,
                teacher_probability=(
                    round(teacher.probabilities[number], _DECIMALS) if teacher else None
                ),
            )
        )
    return found


def _inside(data: str, name: str) -> str:
    """Returns the path of an image in its data folder; another name stays as it is."""
    path = Path(name)
    return path.relative_to(data).as_posix() if path.is_relative_to(data) else name


def thumbnail(split: Split, number: int) -> bytes:
    """Returns a small picture of an image, as a PNG file or, if it is larger, a JPEG file."""
    picture: Image = to_pil_image(split.image(number))
    buffer = io.BytesIO()
    if max(picture.size) <= _LOSSLESS:
        picture.save(buffer, "PNG", optimize=True)
    else:
        picture.thumbnail((SIDE, SIDE), Resampling.LANCZOS)
        picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
