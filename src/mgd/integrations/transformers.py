"""transformers: a mix-in for the Trainer, which guides the model that it trains."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mgd.errors import InputError, import_extra
from mgd.inside import find_labels
from mgd.integrations.guided import Guided
from mgd.method.distiller import Distiller

transformers = import_extra("transformers", "hf", "mgd.integrations.transformers")
import_extra("accelerate", "accelerate", "the Trainer of transformers")

FILE = "matching_guided.pt"
"""What a checkpoint folder of the Trainer holds besides its own files: matching and points."""


class MatchingGuided:
    """Gives a `transformers.Trainer` a teacher: `class GuidedTrainer(MatchingGuided, Trainer)`.

    The teacher's part is added in `compute_loss`, behind whatever the Trainer makes of the labels:
    the model's own loss, label smoothing, or `compute_loss_func`. The matching is updated before
    epochs. The teacher runs on the Trainer's device in its precision. A checkpoint folder holds the
    student alone, as `from_pretrained` loads it, and the matching in `matching_guided.pt`;
    `train(resume_from_checkpoint=...)` goes on with it. Several devices are one process each
    (`torchrun`); unused parameters are not looked for (`ddp_find_unused_parameters=False`).

    Args:
        model: The distiller's student; `None` takes it.
        args: `TrainingArguments`; `None` are the Trainer's own.
        distiller: Joins teacher and student.
        schedule: `every_epochs`, `max_images` and `images` of `mgd.integrations.Guided`.
        **options: Whatever else the Trainer takes.

    Raises:
        InputError: As `Guided`; for another model than the student, or arguments that cannot work.
    """

    # Of the Trainer.
    accelerator: Any
    add_callback: Callable[[Any], None]
    args: Any
    compute_loss_func: Any
    current_gradient_accumulation_steps: int
    model_accepts_loss_kwargs: bool

    def __init__(
        self,
        model: nn.Module | None = None,
        args: Any = None,
        *,
        distiller: Distiller,
        schedule: Mapping[str, Any] | None = None,
        **options: Any,
    ):
        if model is not None and model is not distiller.student:
            raise InputError(
                f"the Trainer's model is a {type(model).__name__} that is not the distiller's "
                "student; give `mgd.Distiller` this very model, or leave `model` out"
            )
        args = transformers.TrainingArguments("trainer_output") if args is None else args
        _check_arguments(args)
        args.ddp_find_unused_parameters = False
        self.guided = Guided(
            distiller, autocast=lambda: self.accelerator.autocast(), **(schedule or {})
        )
        self.guided.attach()
        trainer: Any = super()
        trainer.__init__(model=distiller.student, args=args, **options)
        self.add_callback(_Matching(self.guided))

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Adds the teacher's part to the Trainer's loss, in training.

        Args:
            model, inputs, return_outputs, num_items_in_batch: As in the Trainer.
        """
        labels = find_labels(inputs)
        trainer: Any = super()
        loss, outputs = trainer.compute_loss(model, inputs, True, num_items_in_batch)
        if torch.is_grad_enabled():
            teachers = self.guided.loss(labels).loss.mean()
            loss = loss + teachers / self._accumulated(num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def _accumulated(self, num_items_in_batch: Tensor | int | None) -> int:
        """Returns the batches of an optimizer's step, where the Trainer does not divide by them."""
        is_scaled = getattr(self, "loss_is_scaled_for_ga", None)
        if is_scaled is None:
            takes_count = self.model_accepts_loss_kwargs and num_items_in_batch is not None
            is_scaled = takes_count or self.compute_loss_func is not None
        return self.current_gradient_accumulation_steps if is_scaled else 1

    def train(
        self, resume_from_checkpoint: str | bool | None = None, *more: Any, **named: Any
    ) -> Any:
        """Trains; resumed, it goes on with the matching of the checkpoint.

        Args:
            resume_from_checkpoint: A folder, or True for the last one.
            *more: As in the Trainer.
            **named: As in the Trainer.

        Raises:
            InputError: If the folder has no matching, or one of other points.
        """
        folder = resume_from_checkpoint
        if folder is True:
            folder = transformers.trainer_utils.get_last_checkpoint(self.args.output_dir)
        if folder:
            self.guided.load_state_dict(_read(Path(folder) / FILE))
        trainer: Any = super()
        return trainer.train(resume_from_checkpoint, *more, **named)


class _Matching(transformers.TrainerCallback):  # type: ignore[name-defined]  # imported by name
    """Updates the matching before epochs, and saves it beside the Trainer's checkpoint."""

    def __init__(self, guided: Guided):
        self._guided = guided

    def on_train_begin(self, args: Any, state: Any, control: Any, **has: Any) -> None:
        self._guided.check_trained([has["optimizer"]])

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **has: Any) -> None:
        # A run that is resumed inside an epoch begins at a fraction.
        self._guided.begin_epoch(int(state.epoch or 0), has["train_dataloader"])

    def on_save(self, args: Any, state: Any, control: Any, **has: Any) -> None:
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            torch.save(self._guided.state_dict(), folder / FILE)


def _check_arguments(args: Any) -> None:
    if args.n_gpu > 1:
        raise InputError(
            f"the Trainer would run DataParallel on {args.n_gpu} devices; start one process for "
            "each, as torchrun does, or make one device visible"
        )
    if args.ddp_find_unused_parameters:
        raise InputError(
            "ddp_find_unused_parameters=True would leave out what the points train; leave it out"
        )


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(
            f"'{path}' does not exist: the checkpoint was saved without a teacher; load its "
            "weights into the student, and start without `resume_from_checkpoint`"
        )
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state
