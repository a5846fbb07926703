"""A log that may fail, such as a server's, beside a training that goes on without it."""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from mgd.engine.logs.log import Log
from mgd.runfolder import EpochRecord, RunResult

logger = logging.getLogger(__name__)

PAUSE = 60.0
"""Seconds at least from a failure to the next try."""
_SHARE = 10
"""The next try also waits so many times as long as the one that failed took."""


class PatientLog:
    """Passes on to a log, and keeps what did not get there for the next time.

    The first failure is a warning. The next figures try again, with those that are kept, in their
    order; after a failure not before a while has passed, so that a server that does not answer
    takes at most a tenth of the time. Pictures are given up at once.

    Args:
        name: Of the log, for the warning.
        open_log: Opens it; also tried again where it fails.
    """

    def __init__(self, name: str, open_log: Callable[[], Log]):
        self._name, self._open = name, open_log
        self._log: Log | None = None
        self._kept: deque[Callable[[Log], None]] = deque()
        self._next_try = 0.0
        self._has_warned = False

    def add_options(self, options: Mapping[str, Any]) -> None:
        """Passes the options on."""
        self._pass_on(lambda log: log.add_options(options))

    def add_epoch(self, record: EpochRecord) -> None:
        """Passes an epoch on."""
        self._pass_on(lambda log: log.add_epoch(record))

    def add_image(self, name: str, image: Tensor, epoch: int = 0) -> None:
        """Passes a picture on, if nothing waits before it."""
        if self._log is None or self._kept:
            return
        try:
            self._log.add_image(name, image, epoch)
        except Exception as error:  # whatever another program raises
            self._warn(error)

    def finish(self, result: RunResult) -> None:
        """Passes the result on, without a wait."""
        self._next_try = 0.0
        self._pass_on(lambda log: log.finish(result))

    def close(self) -> None:
        """Closes the log, with a last try for what is kept; says if some is left."""
        self._next_try = 0.0
        self._pass_on(lambda log: log.close())
        if len(self._kept) > 1:
            logger.warning(
                "%s did not get the last figures of the run; the run folder has them all",
                self._name,
            )

    def _pass_on(self, call: Callable[[Log], None]) -> None:
        self._kept.append(call)
        start = time.monotonic()
        if start < self._next_try:
            return
        try:
            if self._log is None:
                self._log = self._open()
            while self._kept:
                self._kept[0](self._log)
                self._kept.popleft()
        except Exception as error:  # whatever another program raises: the training goes on
            now = time.monotonic()
            self._next_try = now + max(PAUSE, _SHARE * (now - start))
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        if not self._has_warned:
            reason = " ".join(str(error).split()) or type(error).__name__
            logger.warning(
                "%s does not take the figures of the run (%s); the run goes on, keeps them in its "
                "folder, and tries again",
                self._name,
                reason,
            )
        self._has_warned = True
