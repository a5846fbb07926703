"""Boxes: what detectors found on a few measured images, beside what is on them."""

import base64
from collections.abc import Sequence

from mgd.report.groups import Group
from mgd.report.html import details, swatch, text
from mgd.report.theme import SERIES
from mgd.runfolder import BoxPicture, KeptBox, read_boxes

_TITLES = {"truth": "true boxes", "student": "student", "teacher": "teacher"}
_LEAST_SCORE = 0.3
"""As in the files: boxes of which a network is less sure are not kept."""


def box_pictures(groups: Sequence[Group]) -> list[str]:
    """Returns the pictures of the first run of each method that has some.

    Raises:
        InputError: If a file of boxes cannot be read.
    """
    kept = [(group.runs[0], read_boxes(group.runs[0].folder)) for group in groups]
    found = [(run, pictures) for run, pictures in kept if pictures]
    if not found:
        return []
    names = sorted({box.name for _, pictures in found for box in _every_box(pictures)})
    roles = {name: SERIES[place % len(SERIES)] for place, name in enumerate(names)}
    key = ", ".join(f"{swatch(roles[name])}{text(name)}" for name in names)
    note = (
        f"Boxes of which a network is at least {100 * _LEAST_SCORE:.0f} % sure, on measured images "
        f"of the run. {key}."
    )
    parts = [f'<p class="note">{note}</p>']
    for place, (run, pictures) in enumerate(found):
        rows = "".join(_row(each, roles) for each in pictures)
        heading = f"<h3>Boxes of {text(run.name)}</h3>"
        parts.append(details(heading, rows, is_open=place == 0))
    return parts


def _every_box(pictures: Sequence[BoxPicture]) -> list[KeptBox]:
    return [box for each in pictures for found in each.boxes.values() for box in found]


def _row(picture: BoxPicture, roles: dict[str, str]) -> str:
    """Returns one image as often as it has sets of boxes."""
    shown = "".join(
        f"<figure>{_drawn(picture, title, picture.boxes[kind], roles)}"
        f"<figcaption>{title}: {len(picture.boxes[kind])}</figcaption></figure>"
        for kind, title in _TITLES.items()
        if kind in picture.boxes
    )
    return f'<h4>{text(picture.image)}</h4><div class="grid three">{shown}</div>'


def _drawn(picture: BoxPicture, title: str, boxes: Sequence[KeptBox], roles: dict[str, str]) -> str:
    width, height = picture.width, picture.height
    label = text(f"{picture.image}, {title}: {len(boxes)} boxes")
    uri = f"data:image/jpeg;base64,{base64.b64encode(picture.jpeg).decode()}"
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">'
        f'<image width="{width}" height="{height}" href="{uri}"/>'
        f"{''.join(_rectangle(box, (width, height), roles) for box in boxes)}</svg>"
    )


def _rectangle(box: KeptBox, size: tuple[int, int], roles: dict[str, str]) -> str:
    (width, height), sure = size, "" if box.score is None else f", {100 * box.score:.0f} %"
    return (
        f'<rect x="{box.left * width:.1f}" y="{box.top * height:.1f}" '
        f'width="{(box.right - box.left) * width:.1f}" '
        f'height="{(box.bottom - box.top) * height:.1f}" stroke-width="1.5" '
        f'style="fill: none; stroke: var(--{roles[box.name]})">'
        f"<title>{text(box.name)}{sure}</title></rect>"
    )
