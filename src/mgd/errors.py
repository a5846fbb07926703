"""The error a user can mend: one line that says what was given, what is needed, what to do."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The command line prints the message as one line and exits with code 2; library users
    can catch it as a `ValueError`.
    """


class TapError(InputError):
    """A tap did not fire, fired with another shape, or was overwritten in place."""
