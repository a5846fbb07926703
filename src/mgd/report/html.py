"""Pieces of HTML: whatever text they are given stays text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from mgd.report.theme import plain


def text(value: object) -> str:
    """Returns a value as text of HTML, also for an attribute in quotes."""
    return escape(plain(str(value)))


@dataclass(frozen=True)
class Cell:
    """A cell of a table."""

    html: str
    title: str = ""
    """What a pointer over it shows."""


def table(
    headings: Sequence[str], rows: Sequence[Sequence[str | Cell]], label: str, kind: str = ""
) -> str:
    """Returns a table in a box of its own, which scrolls where the screen is narrower.

    Args:
        headings: Of the columns, as text.
        rows: Text, or cells of HTML.
        label: What it shows, for those who do not see it.
        kind: Class of the table, for the style.
    """
    head = "".join(f'<th scope="col">{text(heading)}</th>' for heading in headings)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(label)}">'
        f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _cell(cell: str | Cell) -> str:
    if isinstance(cell, str):
        return f"<td>{text(cell)}</td>"
    title = f' title="{text(cell.title)}"' if cell.title else ""
    return f"<td{title}>{cell.html}</td>"


def figure(picture: str, caption: str, legend: str = "", *, has_scope: bool = True) -> str:
    """Returns a picture with its legend and its caption.

    Args:
        picture: SVG.
        caption: HTML.
        legend: HTML; its keys hide what they stand for within the figure.
        has_scope: Whether they do so here, and not in a wider part of the page.
    """
    scope = " data-scope" if has_scope else ""
    return f"<figure{scope}>{picture}{legend}<figcaption>{caption}</figcaption></figure>"


def legend(keys: Sequence[Mapping[str, str]]) -> str:
    """Returns buttons that hide a series and show it again.

    Args:
        keys: Of each series its "key", "name", "colour" (a role) and, where they are known,
            "dashes" (as in SVG) and "value".
    """
    buttons = []
    for each in keys:
        dashes = each.get("dashes", "")
        value = f" <b>{text(each['value'])}</b>" if each.get("value") else ""
        # Short dashes are those of the picture; a key is too small for long ones.
        buttons.append(
            f'<li><button type="button" aria-pressed="true" data-key="{text(each["key"])}">'
            f'<svg class="key" viewBox="0 0 26 8" aria-hidden="true"><path d="M1 4H25" '
            f'style="stroke: var(--{each["colour"]}); stroke-dasharray: {dashes or "none"}"/></svg>'
            f"<span>{text(each['name'])}</span>{value}</button></li>"
        )
    return f'<ul class="legend">{"".join(buttons)}</ul>'


def swatch(colour: str) -> str:
    """Returns a spot in a colour, given by its role."""
    return f'<span class="swatch" style="background: var(--{colour})"></span>'


def details(summary: str, content: str, is_open: bool = False) -> str:
    """Returns content that shows when its summary, which is HTML, is clicked."""
    state = " open" if is_open else ""
    return f"<details{state}><summary>{summary}</summary>{content}</details>"


def section(name: str, heading: str, parts: Sequence[str]) -> str:
    """Returns a part of the page under a heading; nothing without parts."""
    if not parts:
        return ""
    return f'<section id="{name}"><h2>{text(heading)}</h2>{"".join(parts)}</section>'
