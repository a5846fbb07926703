"""Progress: where a run is, and its best epoch so far."""

from collections.abc import Mapping, Sequence
from typing import Any

from mgd.engine.loop.supply import Measured
from mgd.engine.runtime.figures import number, whole_number
from mgd.runfolder import CLASSIFIED


class Progress:
    """The epoch and step that come next, and what the best epoch came to.

    Args:
        epoch: The first epoch, counted from 0.
        keeps_last: Whether each epoch counts as better than those before it.
        patience: Epochs without a better score after which the run is over; 0: it never is.
        figures: What is kept of the best epoch; the first chooses it.
    """

    def __init__(
        self,
        epoch: int = 0,
        keeps_last: bool = False,
        patience: int = 0,
        figures: Sequence[str] = CLASSIFIED.best,
    ):
        self.epoch, self.step, self._figures = epoch, 0, figures
        self._keeps_last, self._patience = keeps_last, patience
        self.forget_best()

    @property
    def is_over(self) -> bool:
        """Whether the score has not become better for as long as the run's patience lasts."""
        return 0 < self._patience <= self.waited

    def forget_best(self) -> None:
        """Makes the next epoch the best."""
        self.waited = 0
        """Epochs since the score was last above all those before it."""
        self.best: dict[str, float] = {"epoch": -1, **dict.fromkeys(self._figures, -1.0)}

    @property
    def best_score(self) -> float:
        """The figure of the best epoch that chose it."""
        return self.best[self._figures[0]]

    def end_epoch(self, scores: Measured) -> bool:
        """Moves to the next epoch, and tells whether this one is the best so far.

        Args:
            scores: Of the student, on the images that choose the epoch.
        """
        found = scores.best
        score = found[self._figures[0]]
        self.waited = 0 if score > self.best_score else self.waited + 1
        # On few images epochs are often equal; the later one has learned from more.
        is_best = self._keeps_last or score >= self.best_score
        if is_best:
            self.best = {"epoch": self.epoch, **found}
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
