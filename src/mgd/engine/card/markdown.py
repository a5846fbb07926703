"""Pieces of Markdown and YAML: whatever names they are given, a name stays a name."""

import re
from collections.abc import Mapping
from typing import Any

import yaml


def plain(text: object) -> str:
    """Returns a text as one line of letters that any file in UTF-8 can hold.

    Line breaks would end a list or a table; halves of characters, as in a file's name that is not
    UTF-8, cannot be written.
    """
    return _printable(" ".join(str(text).split()))


def code(text: object) -> str:
    """Returns a text as code of Markdown, in which no letter has a meaning.

    The fence is longer than any row of backticks in the text.

    Example:
        >>> print(code("a `name`"), code("<b>"))
        `` a `name` `` `<b>`
    """
    content = plain(text) or " "
    fence = "`" * (_longest(content) + 1)
    space = " " if content[0] in "` " or content[-1] in "` " else ""
    return f"{fence}{space}{content}{space}{fence}"


def block(language: str, lines: str) -> str:
    """Returns lines as a block of code, whatever they hold."""
    fence = "`" * max(3, _longest(lines) + 1)
    content = "\n".join(map(_printable, lines.split("\n")))
    return f"{fence}{language}\n{content}\n{fence}"


def front_matter(values: Mapping[str, Any]) -> str:
    """Returns the YAML with which a card begins, as Hugging Face reads it."""
    content = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)
    return f"---\n{content}---\n"


def _printable(line: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)


def _longest(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)
