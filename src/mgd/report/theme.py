"""Theme: colours by their role, light and dark; matplotlib's pictures as SVG in the page's theme.

A picture is drawn once, by a function that is given colours by role. For the page these are
placeholders, which the SVG's text then has as CSS variables, so that one picture serves both
themes. For a PNG file they are the colours of one theme.
"""

import io
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any
from xml.etree import ElementTree

from mgd.errors import InputError

Colours = Mapping[str, str]
"""Colour by role."""
Draw = Callable[[Colours], Any]
"""Draws a figure of matplotlib in the colours given."""

WIDTH = 4.9
"""Width of a picture in inches: its text is then readable on a phone's screen as well."""
SERIES = tuple(f"series{number}" for number in range(1, 9))
"""Roles of the methods' colours: those of Okabe and Ito, which people with any of the common forms
of colour blindness can tell apart, darker on white and lighter on black."""

LIGHT: dict[str, str] = {
    "paper": "#ffffff",
    "panel": "#f6f7f9",
    "ink": "#1c2128",
    "soft": "#59636e",
    "line": "#d5dae0",
    "accent": "#0b62a4",
    **dict(
        zip(
            SERIES,
            (
                "#0072b2",
                "#d04f00",
                "#00805c",
                "#b34a8c",
                "#8f6400",
                "#2b8fd0",
                "#6a51b2",
                "#7d4a2c",
            ),
            strict=True,
        )
    ),
}
DARK: dict[str, str] = {
    "paper": "#14171c",
    "panel": "#1c2027",
    "ink": "#e8ebef",
    "soft": "#a3adb8",
    "line": "#363d47",
    "accent": "#6cb6f0",
    **dict(
        zip(
            SERIES,
            (
                "#4aa3df",
                "#f58344",
                "#2dc79b",
                "#e28fc0",
                "#e3b341",
                "#9bd3f7",
                "#ab9bf0",
                "#c99f7f",
            ),
            strict=True,
        )
    ),
}
_PLACEHOLDERS = {role: f"#a0b1{number:02x}" for number, role in enumerate(LIGHT)}
_VARIABLES = {colour: f"var(--{role})" for role, colour in _PLACEHOLDERS.items()}
_COLOUR = re.compile("|".join(_VARIABLES))
_NUMBER = re.compile(r"-?\d+\.\d+")
_FAMILY = re.compile(r"font-family: [^;]*;? ?")
"""The page's own serves; its letters are no wider than those that the picture was made for."""
_FONT = re.compile(r"font: (?P<size>[\d.]+px) [^;]*")
_NO_TURN = re.compile(r"rotate\(-?0 [-\d. ]*\)")
_REFERENCE = re.compile(r"#([\w-]+)")
_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"


def to_svg(draw: Draw, name: str, title: str, tips: Mapping[str, str] | None = None) -> str:
    """Draws a picture as an inline `<svg>` whose colours are CSS variables, and whose text is text.

    Args:
        draw: Draws it.
        name: Unique on the page; for the ids in it.
        title: What the picture shows, for those who do not see it.
        tips: Text that a pointer over an artist shows, by the artist's `gid`. An artist with the
            gid "KEY:ANYTHING" is marked as of the series KEY, which a legend can hide.

    Raises:
        InputError: If matplotlib is not installed.
    """
    text = _saved(draw, _PLACEHOLDERS, "svg").decode()
    root = ElementTree.fromstring(text)
    for metadata in root.findall(f"{_SVG}metadata"):
        root.remove(metadata)
    for box in ("width", "height"):
        root.attrib.pop(box)
    used = {name for element in root.iter() for name in _references(element)}
    for element in list(root.iter()):
        _adapt(element, name, used, tips or {})
    root.set("role", "img")
    root.set("aria-label", plain(title))
    root.insert(0, _title(title))
    return ElementTree.tostring(root, encoding="unicode")


def to_png(draw: Draw, colours: Colours = LIGHT) -> bytes:
    """Draws a picture as a PNG file, in the light theme or in another.

    Raises:
        InputError: If matplotlib is not installed.
    """
    return _saved(draw, colours, "png")


def plain(text: str) -> str:
    """Returns a text of one line that any picture can hold, whatever a folder's name holds.

    matplotlib would read a `$` as the begin of a formula; XML has no control characters, and UTF-8
    no halves of characters.
    """
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def as_label(text: str) -> str:
    """Returns a plain text as matplotlib must be given it."""
    return plain(text).replace("$", r"\$")


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> Any:
    """Returns (figure, its axes by row and column); a size is in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def _saved(draw: Draw, colours: Colours, kind: str) -> bytes:
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise InputError(
            "pictures need matplotlib; pip install 'matching-guided-distillation[report]'"
        ) from error
    buffer = io.BytesIO()
    with mpl.rc_context(_settings(colours)), warnings.catch_warnings():
        # A name in a script that the font lacks: a browser shows it, a PNG file has boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        metadata = {"Date": None} if kind == "svg" else None
        draw(colours).savefig(buffer, format=kind, dpi=110, metadata=metadata)
    return buffer.getvalue()


def _settings(colours: Colours) -> Any:
    """Returns matplotlib's settings; its own type of them is another in each version."""
    inks = ("text.color", "axes.labelcolor", "axes.titlecolor")
    softs = ("xtick.color", "ytick.color", "axes.edgecolor")
    return {
        **dict.fromkeys(inks, colours["ink"]),
        **dict.fromkeys(softs, colours["soft"]),
        "figure.facecolor": colours["paper"],
        "axes.facecolor": "none",
        "savefig.facecolor": "none" if colours is _PLACEHOLDERS else colours["paper"],
        "grid.color": colours["line"],
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.family": "sans-serif",
        "font.size": 10.5,
        "axes.titlesize": 10.5,
        "axes.labelsize": 10.5,
        "legend.frameon": False,
        "svg.fonttype": "none",
        "svg.hashsalt": "mgd",  # the same runs make the same page
    }


def _references(element: Any) -> list[str]:
    values = (element.get(_LINK), element.get("clip-path"))
    return [found for value in values if value for found in _REFERENCE.findall(value)]


def _adapt(element: Any, name: str, used: set[str], tips: Mapping[str, str]) -> None:
    """Makes an element of matplotlib's SVG one of the page, in place."""
    element.tag = element.tag.removeprefix(_SVG)
    if element.tag != "text":  # where a space may be part of the text
        element.text = (element.text or "").strip() or None
    element.tail = None
    identity = element.attrib.pop("id", "")
    if identity in used:
        element.set("id", f"{name}-{identity}")
    if ":" in identity:
        element.set("data-series", identity.partition(":")[0])
    if identity in tips:
        element.insert(0, _title(tips[identity]))
    for key, value in list(element.attrib.items()):
        if key == _LINK:
            element.set("href", f"#{name}-{element.attrib.pop(_LINK)[1:]}")
        elif key == "clip-path":
            element.set(key, _REFERENCE.sub(rf"#{name}-\1", value))
        elif key == "style":
            themed = _COLOUR.sub(lambda found: _VARIABLES[found[0]], value)
            element.set(key, _FAMILY.sub("", _FONT.sub(r"font-size: \g<size>", themed)))
        elif key == "transform" and _NO_TURN.fullmatch(value):
            del element.attrib[key]
        elif key in ("d", "transform", "x", "y"):
            element.set(key, " ".join(_NUMBER.sub(_shorter, value).split()))


def _shorter(number: re.Match[str]) -> str:
    """A tenth of a point is less than a screen shows, and the page is half as large."""
    return f"{float(number[0]):.1f}".removesuffix(".0")


def _title(text: str) -> Any:
    title = ElementTree.Element("title")
    title.text = plain(text)
    return title
