"""Boxes: a few measured images of a run with what is on them and what was found, in one file."""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgd.runfolder import names
from mgd.runfolder.fields import number
from mgd.runfolder.files import read_json, telling_of
from mgd.runfolder.writing import write_whole

_EDGES = ("left", "top", "right", "bottom")


@dataclass(frozen=True, kw_only=True)
class KeptBox:
    """A box on an image, in shares of its width and height, from 0 to 1."""

    name: str
    """Of the class."""
    left: float
    top: float
    right: float
    bottom: float
    score: float | None = None
    """How sure a network is of it, from 0 to 1; None of a true box."""

    def to_plain(self) -> dict[str, Any]:
        """Returns the box as JSON has it."""
        return {name: value for name, value in vars(self).items() if value is not None}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> "KeptBox":
        """Makes a box of what `to_plain` gave.

        Raises:
            ValueError: If an edge is missing or no number.
        """
        edges = {edge: number(values, edge) for edge in _EDGES}
        score = None if values.get("score") is None else number(values, "score")
        return cls(name=str(values.get("name")), score=score, **edges)


@dataclass(frozen=True, kw_only=True)
class BoxPicture:
    """A measured image."""

    image: str
    """Its name."""
    width: int
    """Of the thumbnail, in pixels."""
    height: int
    jpeg: bytes
    """The thumbnail."""
    boxes: Mapping[str, Sequence[KeptBox]]
    """Those of "truth", "student" and, if it was measured, "teacher"."""


def write_boxes(folder: Path, pictures: Sequence[BoxPicture]) -> None:
    """Writes the pictures of a run.

    Raises:
        RunError: If the file cannot be written.
    """
    plain = [
        {
            "image": each.image,
            "width": each.width,
            "height": each.height,
            "jpeg": base64.b64encode(each.jpeg).decode(),
            "boxes": {
                name: [box.to_plain() for box in found] for name, found in each.boxes.items()
            },
        }
        for each in pictures
    ]
    text = json.dumps({"pictures": plain}).encode()
    write_whole(folder / names.BOXES, lambda file: file.write(text))


def read_boxes(folder: Path) -> list[BoxPicture]:
    """Reads the pictures of a run; none where there is no file.

    Raises:
        InputError: If the file is damaged.
    """
    path = folder / names.BOXES
    if not path.is_file():
        return []
    with telling_of(path):
        content = read_json(path)
        try:
            return [_picture(each) for each in content["pictures"]]
        except (KeyError, TypeError, AttributeError, binascii.Error) as error:
            raise ValueError(f"it holds no pictures of boxes ({error})") from error


def _picture(values: Mapping[str, Any]) -> BoxPicture:
    return BoxPicture(
        image=str(values["image"]),
        width=int(number(values, "width")),
        height=int(number(values, "height")),
        jpeg=base64.b64decode(values["jpeg"], validate=True),
        boxes={
            str(name): [KeptBox.from_plain(box) for box in found]
            for name, found in values["boxes"].items()
        },
    )
