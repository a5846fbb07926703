"""Reads the package's docstrings for the site, where their habits differ from what Griffe knows."""

import re
from typing import Any

from griffe import Extension, Object

TOGETHER = re.compile(r"^ {4}(\w+(?:, \w+)+):(.*(?:\n {8}.*)*)", re.MULTILINE)


class Docstrings(Extension):
    """Gives Griffe the docstrings as it understands them."""

    def on_object(self, *, obj: Object, **rest: Any) -> None:
        """Names a section as Griffe does, and describes arguments one by one.

        The house writes `Example:`, and `teacher, student: The two networks.`.
        """
        if obj.docstring is None:
            return
        text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
        obj.docstring.value = TOGETHER.sub(
            lambda found: "\n".join(f"    {name}:{found[2]}" for name in found[1].split(", ")), text
        )
