"""Errors that a user can mend: one line that says what was given, what is needed, what to do."""

import importlib
from typing import Any


class InputError(ValueError):
    """Something the user gave cannot be used.

    The command line prints the message as one line and exits with code 2; library users
    can catch it as a `ValueError`.
    """

    exit_code = 2


class TapError(InputError):
    """A tap did not fire, fired with another shape, or was overwritten in place."""


class RunError(RuntimeError):
    """A run broke down through no fault of its input: a full disk, a process that was killed.

    The command line prints the message as one line and exits with code 1; what was saved before
    is whole.
    """

    exit_code = 1


class MissingPackageError(InputError, ImportError):
    """A package is not installed that only an extra of this one brings."""


def import_extra(package: str, extra: str, user: str) -> Any:
    """Imports a package that only an extra of this one installs.

    Args:
        package: Its name, as it is imported.
        extra: The extra that brings it.
        user: What needs it, for the message.

    Raises:
        MissingPackageError: If it is not installed; an `InputError`, and an `ImportError` as well.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingPackageError(
            f"{user} needs the package {package}; "
            f"pip install 'matching-guided-distillation[{extra}]'"
        ) from error
