"""Code blocks of the pages, with their marks: what the tests run.

A mark is an HTML comment in the lines right above a block, so that no reader sees it:

    <!-- runs: with WORDS -->           words added to each `mgd train` and `mgd distill`
    <!-- runs: parse, REASON -->        its commands are only parsed: a test has no such data
    <!-- runs: needs a GPU -->          the same, for want of a GPU
    <!-- runs: in FILE as NAME -->      the test in that file runs it
    <!-- runs: after                    lines in the block's language that run before it
    ... -->
"""

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "benchmarks" / "README.md", *ROOT.glob("docs/**/*.md")])
SHELL, PYTHON, SESSION = {"bash", "console", "sh"}, {"python"}, {"pycon"}
TEXT = {"text", "yaml", "json", "mermaid"}

_MARK = re.compile(r"<!-- runs: (.*?)\s*-->", re.DOTALL)
_BLOCK = re.compile(
    r"^(?P<marks>(?:^ *<!-- runs: (?:(?!-->).)*-->\n)*)"
    r"(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<code>.*?)^ *```$",
    re.DOTALL | re.MULTILINE,
)
_IN = re.compile(r"in (\S+) as (\S+)")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Args:
        line: Its first line's number in the page.
        language: Of its fence.
        title: The name of the file that it is to be written to, `title="NAME"` of its fence.
        code: What stands in it.
        marks: What its marks say.
    """

    line: int
    language: str
    title: str
    code: str
    marks: tuple[str, ...]

    def marked(self, word: str) -> str:
        """Returns what its mark says behind a word, or "" if it has no such mark."""
        found = [mark.removeprefix(word) for mark in self.marks if mark.startswith(word)]
        return "\n".join(found).strip(" ,\n")

    @property
    def is_parsed(self) -> bool:
        """Whether its commands are only parsed."""
        return bool(self.marked("parse") or self.marked("needs"))

    @property
    def elsewhere(self) -> tuple[str, str]:
        """The file of the test that runs it, and its name there; ("", "") if none."""
        return next((m.groups() for mark in self.marks if (m := _IN.fullmatch(mark))), ("", ""))


def blocks(text: str) -> list[Block]:
    """Returns the fenced blocks of a page."""
    found = []
    for match in _BLOCK.finditer(text):
        language, _, rest = match["info"].strip().partition(" ")
        title = re.search(r'title="([^"]+)"', rest)
        found.append(
            Block(
                line=text.count("\n", 0, match.start("code")) + 1,
                language=language,
                title=title[1] if title else "",
                code=textwrap.dedent(match["code"]),
                marks=tuple(_MARK.findall(match["marks"])),
            )
        )
    return found


def block(page: str, name: str) -> str:
    """Returns the code of the block that a test runs by its name."""
    text = (ROOT / page).read_text()
    (found,) = (each.code for each in blocks(text) if each.elsewhere[1] == name)
    return found


def without_blocks(text: str) -> str:
    """Returns a page without its fenced blocks and their marks."""
    return _BLOCK.sub("", text)
