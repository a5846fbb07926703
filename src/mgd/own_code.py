"""Code of the user's own, named `package.module:name` on the command line."""

import importlib
import os
import sys
import traceback
from typing import Any

from mgd.errors import InputError


def import_own(what: str, name: str) -> Any:
    """Imports what a name stands for, from an installed package or from the current folder.

    Args:
        what: What it is to be, for an error, such as "network".
        name: `package.module:name`.

    Raises:
        InputError: If it cannot be imported.
    """
    module, _, function = name.partition(":")
    if os.getcwd() not in sys.path:  # at the end, so that nothing that is installed is shadowed
        sys.path.append(os.getcwd())
    try:
        return getattr(importlib.import_module(module), function)
    except Exception as error:  # the module is the user's, and may raise anything
        raise InputError(
            f"{what} '{name}' cannot be imported ({told(error)}); give package.module:callable "
            "of an installed package, or of a file in the current folder"
        ) from error


def told(error: Exception) -> str:
    """Tells in one line what the user's code raised, and where."""
    text = " ".join(str(error).split())
    if isinstance(error, (ImportError, AttributeError, SyntaxError)):
        return text
    own = [
        f", {os.path.basename(frame.filename)} line {frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename.startswith(os.getcwd())
    ]
    return f"{type(error).__name__}{f': {text}' if text else ''}{own[-1] if own else ''}"
