"""timm: a training task, as `timm.task` has them, that distils by matching."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn

from mgd.errors import InputError, import_extra
from mgd.integrations.guided import Guided
from mgd.method.distiller import Distiller
from mgd.method.matcher import MatchingReport

task = import_extra("timm.task", "timm", "mgd.integrations.timm")


class MatchingGuidedTask(task.ClassificationTask):  # type: ignore[name-defined]  # imported by name
    """A task of timm: classification with the teacher's part of the loss.

    It stands beside timm's own `LogitDistillationTask` and `FeatureDistillationTask`, and loops,
    savers and evaluators take it in their place. The student is the trainable module, which the
    optimizer, DDP (`prepare_distributed`), EMA and the checkpoint's `state_dict` know; the matching
    is the task's state (`task_state`), so that `timm.task.resume_task_checkpoint` goes on with it.

    Args:
        distiller: Joins teacher and student.
        criterion: Loss on the labels; `None` makes one of `criterion_kwargs`, as timm does.
        criterion_kwargs: For `timm.loss.create_classification_loss`.
        device, dtype, verbose: As in `timm.task.TrainingTask`.
        **schedule: `every_epochs`, `max_images` and `images` of `mgd.integrations.Guided`.

    Raises:
        InputError: As `Guided`.
    """

    def __init__(
        self,
        distiller: Distiller,
        criterion: nn.Module | Callable[[Tensor, Tensor], Tensor] | None = None,
        criterion_kwargs: dict[str, Any] | None = None,
        *,
        device: Any = None,
        dtype: Any = None,
        verbose: bool = True,
        **schedule: Any,
    ):
        super().__init__(
            distiller.student, criterion, criterion_kwargs, device=device, dtype=dtype,
            verbose=verbose,
        )  # fmt: skip
        self.guided = Guided(distiller, **schedule)
        self.guided.attach()

    def begin_epoch(self, epoch: int, loader: Iterable[Any]) -> list[MatchingReport]:
        """Solves the matching anew if it is due; see `Guided.begin_epoch`.

        Args:
            epoch: Counted from 0.
            loader: The training loader.
        """
        return self.guided.begin_epoch(epoch, loader)

    def forward(self, input: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Runs a training step's forward.

        Args:
            input: Images (B, C, H, W).
            target: As the criterion takes it.

        Returns:
            `loss`, the whole; `output`, the student's logits; `task_loss` and `distill_loss`, its
            two parts; and each term of the teacher, such as `mgd_1`.
        """
        result = super().forward(input, target)
        distilled = self.guided.loss(target)
        teachers = distilled.loss.mean()
        parts = {"task_loss": result["loss"], "distill_loss": teachers}
        terms = {name: term.mean() for name, term in distilled.terms.items()}
        return {**result, **parts, **terms, "loss": result["loss"] + teachers}

    def get_clip_parameters(self, exclude_head: bool = False) -> list[nn.Parameter]:
        """Returns the parameters for clipping; the head are the student's last two, as in timm.

        Args:
            exclude_head: Whether to leave out the head.
        """
        lent = list(self.guided.parameters().values())
        names = {id(parameter) for parameter in lent}
        own = [each for each in self.guided.student.parameters() if id(each) not in names]
        return [*(own[:-2] if exclude_head else own), *lent]

    def get_task_state(self, module: nn.Module | None = None, ema: bool = False) -> dict[str, Any]:
        """Returns the matching and the layers of the points; an EMA of the student has none."""
        return {} if ema else {"matching_guided": self.guided.state_dict()}

    def load_task_state(
        self,
        state: dict[str, Any] | None,
        strict: bool = True,
        module: nn.Module | None = None,
        ema: bool = False,
    ) -> None:
        """Goes back to a matching.

        Args:
            state: As `get_task_state` returned it.
            strict: Whether a state without a matching is an error.
            module, ema: As in timm.

        Raises:
            InputError: If there is no matching and there must be one, or it is of other points.
        """
        if ema:
            return
        if state and "matching_guided" in state:
            self.guided.load_state_dict(state["matching_guided"])
        elif strict:
            raise InputError(
                "the checkpoint has no matching, so it was not saved by a MatchingGuidedTask; load "
                "its weights into the student instead"
            )
