"""How `mgd predict` writes what networks say of images: as a table, as CSV, as JSON."""

import csv
import io
import json
import sys
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar

from mgd.cli.lines import printable
from mgd.engine.detection.finding import Finding
from mgd.engine.predict import Prediction

_LEAST = 40
"""Columns that the answers need beside the name of their image."""
Answer = TypeVar("Answer", bound=Prediction | Finding)


class Answers(ABC, Generic[Answer]):
    """What a network says of images, in the formats that there are.

    Args:
        found: What it says of each image.
    """

    def __init__(self, found: Sequence[Answer]):
        self.found = found

    @abstractmethod
    def parts(self, answer: Answer) -> Iterator[str]:
        """Yields what the table says of an image, in parts that are not broken."""

    @abstractmethod
    def rows(self) -> Iterator[Sequence[str]]:
        """Yields the rows of the CSV file, its header first."""

    @abstractmethod
    def entry(self, answer: Answer) -> dict[str, Any]:
        """Returns what JSON says of an image."""

    def as_table(self, columns: int = sys.maxsize) -> str:
        """Writes an image a line, or more where its answers do not fit beside its name."""
        names = [printable(each.image) for each in self.found]
        widest = max(map(len, names), default=0)
        is_beside = widest + _LEAST <= columns
        indent = " " * (widest + 2 if is_beside else 4)
        lines = []
        for name, each in zip(names, self.found, strict=True):
            # textwrap breaks a line at ordinary spaces alone, and leaves non-breaking ones.
            parts = (printable(part).replace(" ", "\xa0") for part in self.parts(each))
            start = f"{name:{widest}}  " if is_beside else indent
            answers = textwrap.wrap(
                "  ".join(parts),
                columns,
                initial_indent=start,
                subsequent_indent=indent,
                break_long_words=False,
                break_on_hyphens=False,
            )
            lines += answers if is_beside else [name, *answers]
        return "".join(f"{line}\n" for line in lines).replace("\xa0", " ")

    def as_csv(self) -> str:
        """Writes the rows."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(self.rows())
        return text.getvalue()

    def as_json(self) -> str:
        """Writes a list with an entry an image."""
        return json.dumps([self.entry(each) for each in self.found], indent=1) + "\n"


class ClassAnswers(Answers[Prediction]):
    """The most likely classes of each image."""

    def parts(self, answer: Prediction) -> Iterator[str]:
        """Yields each class with its probability in percent."""
        return (f"{name} {100 * share:.1f} %" for name, share in answer.classes)

    def rows(self) -> Iterator[Sequence[str]]:
        """Yields a row an image."""
        most = max((len(each.classes) for each in self.found), default=0)
        places = range(1, most + 1)
        yield ["image", *(f"{what}_{n}" for n in places for what in ("class", "probability"))]
        for each in self.found:
            cells = (cell for name, share in each.classes for cell in (name, f"{share:.6f}"))
            yield [each.image, *cells]

    def entry(self, answer: Prediction) -> dict[str, Any]:
        """Returns the image and its classes."""
        classes = [{"class": name, "probability": share} for name, share in answer.classes]
        return {"image": answer.image, "classes": classes}


class BoxAnswers(Answers[Finding]):
    """The boxes on each image."""

    def parts(self, answer: Finding) -> Iterator[str]:
        """Yields each class with its score in percent, and the corners in whole pixels."""
        for box in answer.boxes:
            corners = ", ".join(f"{edge:.0f}" for edge in box.corners)
            yield f"{box.name} {100 * box.score:.1f} % ({corners})"
        if not answer.boxes:
            yield "no box"

    def rows(self) -> Iterator[Sequence[str]]:
        """Yields a row a box; an image without one has none."""
        yield ["image", "class", "score", *_EDGES]
        for each in self.found:
            for box in each.boxes:
                edges = (f"{edge:.2f}" for edge in box.corners)
                yield [each.image, box.name, f"{box.score:.6f}", *edges]

    def entry(self, answer: Finding) -> dict[str, Any]:
        """Returns the image and its boxes."""
        boxes = [
            {"class": box.name, "score": box.score, **dict(zip(_EDGES, box.corners, strict=True))}
            for box in answer.boxes
        ]
        return {"image": answer.image, "boxes": boxes}


_EDGES = ("left", "top", "right", "bottom")
