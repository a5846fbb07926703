"""Guided: a student in somebody else's training loop, and what the teacher adds to its loss."""

import copy
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mgd.errors import InputError
from mgd.inside import CallRecorder
from mgd.integrations.hidden import HiddenParameters
from mgd.method.distiller import Distiller
from mgd.method.learner import Distilled
from mgd.method.matcher import MatchingReport
from mgd.method.positions import Weights
from mgd.method.rematch import RematchSchedule, update_matching
from mgd.tensors.logits import LOGIT_LOSSES


class Guided:
    """Guides a student that the loop of another library trains.

    The student stays that loop's model: its optimizer, its DDP, its checkpoints. From `attach` to
    `detach` its calls with gradients are followed by hooks, and it lends its list of parameters
    to the layers that the points train beside it. `loss` then compares the last call with the
    teacher. The student's `state_dict()` stays that of the student alone; the matching and the
    layers of the points are in `state_dict()` of this object, and the teacher is nowhere.

    Attach before the optimizer is made and before DDP wraps the student. The student is called
    once a step; of several calls the last one counts.

    Args:
        distiller: Joins teacher and student; without `student_view`, since the loop gives the
            student its images.
        every_epochs: The matching is solved before the first epoch and every so many epochs; 0
            means only once.
        every_steps: Solve every so many steps of the whole training instead, in `begin_step`; 0
            leaves it to the epochs.
        max_images: Images that a matching is measured on, over all processes; at least 1.
        images: A loader of images for the matching; `None` takes the loop's training loader.
        autocast: Makes the context of the loop's arithmetic, where the loop does not enter it
            around `loss`.

    Raises:
        InputError: For a distiller with `student_view`.

    Example:
        >>> import torch, mgd
        >>> from mgd.integrations import Guided
        >>> teacher = mgd.create_model("cifar_resnet8", num_classes=10)
        >>> student = mgd.create_model("cifar_resnet8_x0_5", num_classes=10)
        >>> images, labels = torch.randn(4, 3, 32, 32), torch.tensor([3, 1, 4, 1])
        >>> guided = Guided(mgd.Distiller(teacher, student, images))
        >>> guided.attach()
        >>> optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
        >>> reports = guided.begin_epoch(0, [(images, labels)])
        >>> loss = nn.functional.cross_entropy(student(images), labels)
        >>> loss = loss + guided.loss().loss.mean()
        >>> loss.backward()
        >>> guided.detach()
        >>> len(reports), loss.shape
        (3, torch.Size([]))
    """

    def __init__(
        self,
        distiller: Distiller,
        *,
        every_epochs: int = 1,
        every_steps: int = 0,
        max_images: int = 20_000,
        images: Iterable[Any] | None = None,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ):
        if not isinstance(distiller.learner.preprocess, nn.Identity):
            raise InputError(
                "the distiller has a `student_view`, but here the loop prepares the student's "
                "images; leave the view out, and give the teacher "
                "`nn.Sequential(Normalize(...), teacher)` if it needs another mean or deviation"
            )
        self.distiller = distiller
        self._max_images, self._images, self._autocast = max_images, images, autocast
        is_solved_again = distiller.points.solved_again
        self._schedule = RematchSchedule(
            every_epochs if is_solved_again else 0, every_steps if is_solved_again else 0
        )
        self._epoch = self._step = -1
        self._device: torch.device | None = None
        self._recorder: CallRecorder | None = None
        self._hidden: HiddenParameters | None = None

    @property
    def student(self) -> nn.Module:
        """The student, the same object that was given to the distiller."""
        return self.distiller.student

    def parameters(self) -> dict[str, nn.Parameter]:
        """Returns what the points train beside the student, under the names that it is lent by."""
        named = self.distiller.points.named_parameters()
        return {f"mgd_{name.replace('.', '_')}": parameter for name, parameter in named}

    def attach(self) -> None:
        """Lends the student the points' parameters, and follows its calls.

        Raises:
            InputError: If it is guided already.
        """
        self._hidden = HiddenParameters(self.student, self.parameters())
        self._recorder = CallRecorder(self.distiller.learner.tapped_student)

    def detach(self) -> None:
        """Gives the student back as it was before `attach`."""
        if self._recorder is not None and self._hidden is not None:
            self._recorder.close()
            self._hidden.close()
        self._recorder = self._hidden = None

    def check_trained(self, optimizers: Iterable[Any]) -> None:
        """Checks that the loop trains the points' parameters.

        Args:
            optimizers: Of the loop; each has `param_groups`.

        Raises:
            InputError: If an optimizer was made too early to know them.
        """
        groups = (group for optimizer in optimizers for group in optimizer.param_groups)
        known = {id(parameter) for group in groups for parameter in group["params"]}
        missing = [name for name, each in self.parameters().items() if id(each) not in known]
        if missing:
            raise InputError(
                f"no optimizer has {missing[0]}, which the distillation trains beside the student; "
                "make the optimizer of all the student's parameters, and after the student is "
                "guided (FSDP and DeepSpeed put other parameters in its place: use DDP)"
            )

    def begin_epoch(self, epoch: int, loader: Iterable[Any]) -> list[MatchingReport]:
        """Solves the matching anew if it is due before this epoch; every process calls it.

        The random numbers of the loop go on as if this had not been called.

        Args:
            epoch: Counted from 0. An epoch that a resumed run is in the middle of is matched.
            loader: Of training images, as `mgd.update_matching` takes it.

        Returns:
            One report per matched point; none where no update was due.
        """
        begun, self._epoch = self._epoch, max(epoch, self._epoch)
        if epoch <= begun or not self.distiller.needs_images:
            return []
        if self.distiller.is_matched and not self._schedule.due(epoch):
            return []
        return self._match(loader)

    def begin_step(self, step: int, loader: Iterable[Any]) -> list[MatchingReport]:
        """Solves the matching anew if it is due before this step; for loops that count steps.

        It takes the place of `begin_epoch`, and the first call solves the first matching.

        Args:
            step: Counted from 0 over the whole training.
            loader: As in `begin_epoch`.

        Returns:
            One report per matched point; none where no update was due.
        """
        begun, self._step = self._step, max(step, self._step)
        if step <= begun or not self.distiller.needs_images:
            return []
        if self.distiller.is_matched and not self._schedule.due_step(step):
            return []
        return self._match(loader)

    def _match(self, loader: Iterable[Any]) -> list[MatchingReport]:
        self._follow(next(self.student.parameters()).device)
        images = self._images if self._images is not None else _apart(loader)
        with self._autocast(), torch.random.fork_rng(devices=[]):
            return update_matching(self.distiller, images, self._max_images)

    def loss(self, labels: Tensor | None = None, weights: Weights = None) -> Distilled:
        """Returns what the teacher adds to the loss of the student's last call.

        The whole loss is `cross_entropy + guided.loss().loss.mean()`; with a detector
        `sum(losses.values())` takes the place of the cross-entropy.

        Args:
            labels: Classes (B,), below 0 for an image without one. Only a distiller with
                kd="dkd" looks at them.
            weights: How much each place counts, as `Distiller.forward` takes them.

        Raises:
            InputError: If the student was not called since, with gradients, or if its features
                have none.
        """
        call = self._recorder.take() if self._recorder is not None else None
        if call is None:
            raise InputError(
                "the student was not called since the last loss: `attach` first, then call the "
                "student, with gradients, once before each `loss`"
            )
        if call.features and not any(features.requires_grad for features in call.features):
            raise InputError(
                "no feature of the student has a gradient, so that the teacher could not train it; "
                "unfreeze it, and where it checkpoints activations, do so with "
                "`use_reentrant=False`"
            )
        self._follow(call.images[0].device)
        term = self.distiller.learner.logit_term
        needed = labels if term.weight and LOGIT_LOSSES[term.kd].needs_labels else None
        with self._autocast():
            guidance = self.distiller.guide(call.images, weights=weights)
            return self.distiller.learner.compare(call.features, call.output, needed, guidance)

    def _follow(self, device: torch.device) -> None:
        """Moves what the loop does not know of to the student's device, in training mode."""
        if self._device != device:
            self.distiller.frozen_teacher.to(device)
            self.distiller.points.to(device)
            self._device = device
        self.distiller.points.train()

    def state_dict(self) -> dict[str, Any]:
        """Returns the points, with their matchings, and when they are from; no network."""
        points = dict(self.distiller.points.state_dict())
        return {"points": points, "epoch": self._epoch, "step": self._step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to a state.

        Raises:
            InputError: If it is that of other points.
        """
        try:
            self.distiller.points.load_state_dict(state["points"])
            self._epoch, self._step = int(state["epoch"]), int(state.get("step", -1))
        except (KeyError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"the checkpoint was made with other distillation points ({reason}); give the "
                "distiller the same networks, points and method"
            ) from error
        self.distiller.mark_matched()


def _apart(loader: Iterable[Any]) -> Iterable[Any]:
    """Returns a loader of the same images whose use leaves the loop's own iteration alone."""
    # accelerate's loaders count their epochs, and tell the accelerator which one is in use.
    loader = getattr(loader, "base_dataloader", loader)
    if not isinstance(loader, DataLoader) or not loader.persistent_workers:
        return loader
    apart = copy.copy(loader)
    apart._iterator = None  # torch keeps the one iterator of persistent workers here
    return apart
