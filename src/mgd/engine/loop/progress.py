"""Progress: where a run is, and its best epoch so far."""

from collections.abc import Mapping
from typing import Any

from mgd.engine.loop.evaluation import Scores
from mgd.engine.runtime.figures import number, whole_number


class Progress:
    """The epoch and step that come next, and what the best epoch came to.

    Args:
        epoch: The first epoch, counted from 0.
        keeps_last: Whether each epoch counts as better than those before it.
        patience: Epochs without a better accuracy after which the run is over; 0: it never is.
    """

    def __init__(self, epoch: int = 0, keeps_last: bool = False, patience: int = 0):
        self.epoch, self.step = epoch, 0
        self._keeps_last, self._patience = keeps_last, patience
        self.forget_best()

    @property
    def is_over(self) -> bool:
        """Whether the accuracy has not become better for as long as the run's patience lasts."""
        return 0 < self._patience <= self.waited

    def forget_best(self) -> None:
        """Makes the next epoch the best."""
        self.waited = 0
        """Epochs since the accuracy was last above all those before it."""
        self.best: dict[str, float] = {"epoch": -1, "top1": -1.0, "top5": -1.0}

    def end_epoch(self, scores: Scores) -> bool:
        """Moves to the next epoch, and tells whether this one is the best so far.

        Args:
            scores: Of the student, on the images that choose the epoch.
        """
        self.waited = 0 if scores.top1 > self.best["top1"] else self.waited + 1
        # On few images epochs are often equal; the later one has learned from more.
        is_best = self._keeps_last or scores.top1 >= self.best["top1"]
        if is_best:
            self.best = {"epoch": self.epoch, "top1": scores.top1, "top5": scores.top5}
        self.epoch, self.step = self.epoch + 1, 0
        return is_best

    def state_dict(self) -> dict[str, Any]:
        """Returns the place, the best epoch, and how long none was better."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "best": self.best,
            "waited": self.waited,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes back to a state.

        Raises:
            InputError: For a place that is no whole number, or scores that are no numbers.
        """
        self.epoch, self.step = whole_number(state, "epoch"), whole_number(state, "step")
        self.best = {name: number(state["best"], name) for name in self.best}
        # Version 0.3.0 did not count them: of equal accuracies the later is the best.
        since_best = max(0, self.epoch - 1 - int(self.best["epoch"]))
        self.waited = whole_number({"waited": since_best, **state}, "waited")
