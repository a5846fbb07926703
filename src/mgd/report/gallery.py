"""Gallery: what the student was taught, as feature maps on a few validation images."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np

from mgd.report import maps
from mgd.report.groups import Group
from mgd.report.html import details, text
from mgd.runfolder import Gallery, GalleryChannel, Run, Taught, read_gallery

_MOST = 2_000_000
"""Characters of all galleries on a page: the page has to stay small."""
_REDUCERS = {
    "sm": "one teacher channel",
    "amp": "absolute max pooling",
    "sp": "simple max pooling",
    "avg": "average pooling",
    "rd": "random drop",
}
"""What a reader is told of a reducer, by the name in the options of a run."""


def galleries(groups: Sequence[Group]) -> list[str]:
    """Returns the gallery of the first run of each method that has one.

    Raises:
        InputError: If the file of a gallery cannot be read.
    """
    found = [each for group in groups if (each := _of(group)) is not None]
    parts: list[str] = []
    left_out = []
    for place, (run, gallery) in enumerate(found):
        heading = f"<h3>Feature maps of {text(run.name)}</h3>"
        part = details(heading, _content(run, gallery, f"gallery{place}"), is_open=place == 0)
        if sum(map(len, [*parts, part])) > _MOST:
            left_out.append(run.name)
        else:
            parts.append(part)
    if not found:
        return []
    if left_out:
        rest = f"Left out, so that the page stays small: {', '.join(left_out)}. A report of one of "
        parts.append(f'<p class="note">{text(rest)}these runs alone shows its maps.</p>')
    return [*_introduction(found[0][1]), *parts]


def _of(group: Group) -> tuple[Run, Gallery] | None:
    for run in group.runs:
        gallery = read_gallery(run.folder)
        if gallery is not None and gallery.is_whole:
            return run, gallery
    return None


def _introduction(gallery: Gallery) -> list[str]:
    sentences = (
        "A channel of a network answers to some pattern. Its feature map shows where on an image "
        "it does so, and how strongly.",
        "Each box below is one channel of the student, on the same "
        f"{len(gallery.pictures)} validation images. It follows the teacher channels above it. The "
        "reducer makes one target of their maps, and the training pulls the student's map towards "
        "this target.",
        "Compare the last three rows of a box: before training the student's map has little to do "
        "with the target; after training it should look like it.",
    )
    notes = (
        "The channels were chosen before training: at each point the one that was nearest to its "
        "teacher channels by distance, the one in the middle, and the farthest. The matching and "
        "the maps after training are those of the best epoch.",
        "All maps of a box have the same scale. They are what the loss compares: taken before the "
        "activation, so that they have both signs, and behind the BatchNorm of the point on the "
        "student's side. Where the target is lower than the margin, the loss raises it to the "
        "margin.",
    )
    return [
        f"<p>{text(' '.join(sentences))}</p>",
        _legend(),
        f'<p class="note">{text(" ".join(notes))}</p>',
    ]


def _legend() -> str:
    ramp = np.linspace(-1, 1, 255, dtype=np.float32)[None, None].repeat(12, axis=1)
    png, size = maps.maps_strip(ramp, 1.0)
    label = "Colours: blue is negative, no colour is zero, orange is positive"
    return (
        f'<p class="scale"><span>negative</span>{_picture(png, size, 1, label)}'
        "<span>positive</span><small>no colour: zero</small></p>"
    )


def _content(run: Run, gallery: Gallery, name: str) -> str:
    """Returns the points of a run below each other, each with its channels beside each other."""
    png, size = maps.pictures_strip(gallery.pictures)
    symbol = (
        f'<svg class="store" aria-hidden="true"><symbol id="{name}" '
        f'viewBox="0 0 {size[0]} {size[1]}">{_image(png, size)}</symbol></svg>'
    )
    pictures = _svg(
        f'<use href="#{name}"/>', size, f"The images, by class: {', '.join(gallery.labels)}"
    )
    reducer = str(run.options.get("mgd-reducer", ""))
    parts = [symbol]
    for taps, channels in groupby(gallery.channels, lambda each: (each.teacher, each.student)):
        boxes = "".join(_box(each, pictures, reducer) for each in channels)
        parts.append(f"<h4>{text(' → '.join(taps))}</h4>")
        parts.append(f'<div class="grid three">{boxes}</div>')
    return "".join(parts)


def _box(channel: GalleryChannel, pictures: str, reducer: str) -> str:
    """Returns one student channel: a strip of pictures a row."""
    taught = channel.taught
    assert taught is not None  # the gallery is whole
    limit = maps.limit_of(taught.teacher, taught.target)
    rows = [("the images", pictures)]
    for label, shown in _rows(channel, taught, reducer):
        png, size = maps.maps_strip(shown, limit)
        rows.append((label, _picture(png, size, len(shown), f"{label}, on each image")))
    listed = "".join(f"<dt>{text(label)}</dt><dd>{picture}</dd>" for label, picture in rows)
    more = taught.groups - len(taught.followed)
    channels = "teacher channel" if taught.groups == 1 else "teacher channels"
    numbers = ", ".join(map(str, taught.followed)) + (f" and {more} more" if more else "")
    first, last = (_correlation(each, taught.target) for each in (channel.before, taught.after))
    caption = (
        f"Correlation with the target: {_number(first)} before training, <b>{_number(last)}</b> "
        f"after. Strongest colour: ±{limit:.2g}. Margin: {_number(taught.margin)}."
    )
    return (
        f'<figure class="maps"><h5>Student channel {channel.channel} follows {channels} {numbers}'
        f"</h5><dl>{listed}</dl><figcaption>{caption}</figcaption></figure>"
    )


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "\N{MINUS SIGN}")


def _rows(channel: GalleryChannel, taught: Taught, reducer: str) -> Iterator[tuple[str, maps.Maps]]:
    for number, shown in zip(taught.followed, taught.teacher, strict=True):
        yield f"teacher channel {number}", shown
    how = f": {_REDUCERS[reducer]}" if reducer in _REDUCERS else ""
    yield f"target{how}", taught.target
    yield "student before training", channel.before
    yield "student after training", taught.after


def _correlation(one: maps.Maps, other: maps.Maps) -> float:
    """Returns Pearson's correlation over all images and positions; 0 for a constant map."""
    left, right = (each.ravel().astype(np.float64) - each.mean() for each in (one, other))
    length = float(np.linalg.norm(left) * np.linalg.norm(right))
    return float(left @ right) / length if length else 0.0


def _picture(png: bytes, size: tuple[int, int], number: int, label: str) -> str:
    frames = "".join(
        f'<rect x="{x}" width="{width}" height="{size[1]}"/>'
        for x, width in maps.tiles_of(size, number)
    )
    return _svg(f"{frames}{_image(png, size)}", size, label)


def _image(png: bytes, size: tuple[int, int]) -> str:
    return f'<image width="{size[0]}" height="{size[1]}" href="{maps.data_uri(png)}"/>'


def _svg(content: str, size: tuple[int, int], label: str) -> str:
    return (
        f'<svg viewBox="0 0 {size[0]} {size[1]}" role="img" aria-label="{text(label)}">'
        f"<title>{text(label)}</title>{content}</svg>"
    )
