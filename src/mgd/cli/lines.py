"""Lines: how accuracies are written, and how a line fits a terminal of 80 columns."""

import math
import textwrap
from collections.abc import Iterable
from unicodedata import category

from mgd.engine.loop.opening import WIDTH
from mgd.runfolder import EpochRecord

_OBEYED = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's categories of controls, formats, halves of a character, and ends of lines."""


def decimals(images: int) -> int:
    """Returns how many decimals of an accuracy in percent so many images can tell apart.

    One of 160 images is 0.6 %, so one decimal; one of 10 000 is 0.01 %, so two.

    Example:
        >>> [decimals(images) for images in (160, 1000, 10_000, 50_000)]
        [1, 1, 2, 3]
    """
    return max(1, math.ceil(math.log10(max(1, images) / 100)))


def accuracies(top1: float, top5: float, images: int) -> str:
    """Writes top-1 and top-5 accuracy, in percent, over so many images.

    Example:
        >>> accuracies(76.13, 92.862, 50_000)
        'Acc@1 76.130 Acc@5 92.862'
    """
    places = decimals(images)
    return f"Acc@1 {top1:.{places}f} Acc@5 {top5:.{places}f}"


def agreement(top1: float, images: int) -> str:
    """Writes how often, in percent, the student's answer is the teacher's.

    Example:
        >>> agreement(91.4, 160)
        'agreement with the teacher 91.4'
    """
    return f"agreement with the teacher {top1:.{decimals(images)}f}"


def precisions(map_: float, map_50: float, images: int) -> str:
    """Writes mean average precision, in percent, over overlaps of 0.50 to 0.95, and at 0.50.

    Example:
        >>> precisions(31.42, 60.25, 87)
        'mAP 31.4 mAP@50 60.2'
    """
    places = decimals(images)
    return f"mAP {map_:.{places}f} mAP@50 {map_50:.{places}f}"


def scores_of(record: EpochRecord, images: int) -> str:
    """Writes what an epoch's student came to on so many validation images."""
    if record.valid_map is not None:
        return precisions(record.valid_map, record.valid_map_50 or 0.0, images)
    top1, top5 = record.valid_top1 or 0.0, record.valid_top5 or 0.0
    return agreement(top1, images) if record.valid_is_agreement else accuracies(top1, top5, images)


def printable(text: str) -> str:
    """Writes what a terminal would obey or cannot show as its escape, such as a colour's code.

    Names of files and classes may come from a stranger.

    Example:
        >>> printable("red" + chr(27) + "[31m") == "red" + chr(92) + "x1b[31m"
        True
    """
    return "".join(
        each.encode("unicode_escape").decode() if category(each) in _OBEYED else each
        for each in text
    )


def printable_lines(text: str) -> str:
    """Does the same with each line of a text."""
    return "\n".join(map(printable, text.split("\n")))


def folded(parts: Iterable[str], gap: str = "  ", indent: str = "", columns: int = WIDTH) -> str:
    """Joins parts to lines of so many columns; no part is broken.

    Args:
        parts: A part that is too long by itself has a line of its own.
        gap: Spaces between two parts.
        indent: Before the first line; there are two spaces before the next ones.
        columns: What a line fits; by default 80.
    """
    # textwrap breaks a line at ordinary spaces alone, and leaves non-breaking ones.
    glued = gap.join(part.replace(" ", "\xa0") for part in parts)
    lines = textwrap.fill(
        glued,
        columns,
        initial_indent=indent,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return lines.replace("\xa0", " ")
