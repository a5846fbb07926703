"""Signals: a run that is told to stop saves first."""

import signal
import threading
from types import FrameType
from typing import Any

from mgd.errors import RunError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StoppedError(RunError):
    """The run was told to stop, and saved where it was."""

    def __init__(self, number: int):
        name = signal.Signals(number).name
        super().__init__(f"stopped by {name} after saving; go on with --resume auto")
        self.exit_code = 128 + number


class StopSignals:
    """Notes SIGINT and SIGTERM while a run trains; a second one acts as it always does.

    Args:
        active: Whether to; otherwise signals act as they always do.

    Example:
        >>> import os, signal
        >>> with StopSignals() as stop:
        ...     os.kill(os.getpid(), signal.SIGTERM)
        ...     print(signal.Signals(stop.received).name)
        SIGTERM
    """

    def __init__(self, active: bool = True):
        self.active = active
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def __enter__(self) -> "StopSignals":
        # Python lets the main thread alone handle signals.
        if self.active and threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        self._restore()
