"""Pictures: a few measured images with their boxes, for the report."""

import io
from collections.abc import Sequence
from pathlib import Path

from PIL.Image import Image, Resampling
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from mgd.data.boxes import BoxSplit, Target
from mgd.engine.detection.precision import Found, Precisions
from mgd.runfolder import BoxPicture, KeptBox, write_boxes

IMAGES = 6
"""How many are kept, spread over the part."""
SIDE = 320
"""Longest side of a thumbnail, in pixels."""
LEAST_SCORE = 0.3
"""A box of which a network is less sure is not shown."""
_MOST = 60
"""Boxes of one network on an image, the surest first."""


def keep_pictures(
    folder: Path,
    split: BoxSplit,
    classes: Sequence[str],
    student: Precisions,
    teacher: Precisions | None,
) -> None:
    """Writes a few images of a measured part, with true boxes and those that were found.

    Args:
        folder: Of the run.
        split: The part.
        classes: The first has the label 1.
        student: With what it found.
        teacher: With what it found, if it was measured.

    Raises:
        RunError: If the file cannot be written.
    """
    number = min(IMAGES, len(split))
    chosen = [(2 * place + 1) * len(split) // (2 * number) for place in range(number)]
    pictures = []
    for index in chosen:
        image = split.image(index)
        found: dict[str, Found | Target] = {"truth": split.target(index)}
        found["student"] = student.found[index]
        if teacher is not None and teacher.found:
            found["teacher"] = teacher.found[index]
        size = (image.shape[-1], image.shape[-2])
        boxes = {name: _kept(each, classes, size) for name, each in found.items()}
        jpeg, shown = _thumbnail(image)
        pictures.append(
            BoxPicture(
                image=Path(split.name(index)).name,
                width=shown[0],
                height=shown[1],
                jpeg=jpeg,
                boxes=boxes,
            )
        )
    write_boxes(folder, pictures)


def _kept(found: Found | Target, classes: Sequence[str], size: tuple[int, int]) -> list[KeptBox]:
    width, height = size
    scores = found["scores"].tolist() if "scores" in found else [None] * len(found["labels"])
    boxes = []
    for corners, label, score in zip(
        found["boxes"].tolist(), found["labels"].tolist(), scores, strict=True
    ):
        if score is None or score >= LEAST_SCORE:
            left, top, right, bottom = corners
            boxes.append(
                KeptBox(
                    name=classes[label - 1],
                    left=round(left / width, 4),
                    top=round(top / height, 4),
                    right=round(right / width, 4),
                    bottom=round(bottom / height, 4),
                    score=None if score is None else round(score, 3),
                )
            )
    return sorted(boxes, key=lambda box: -(box.score or 0.0))[:_MOST]


def _thumbnail(image: Tensor) -> tuple[bytes, tuple[int, int]]:
    picture: Image = to_pil_image(image)
    picture.thumbnail((SIDE, SIDE), Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return buffer.getvalue(), picture.size
