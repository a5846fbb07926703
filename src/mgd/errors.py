"""Errors that a user can mend: one line that says what was given, what is needed, what to do."""


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
