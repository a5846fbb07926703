"""Distiller: a teacher, a student and the points where one follows the other."""

import logging
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from mgd.errors import InputError
from mgd.inside import PairLike, PointPair, TappedModel, discover_points, evaluating, resolve_points
from mgd.method.baselines import BASELINES
from mgd.method.point import DistillationPoint, MatchedPoint
from mgd.method.running import RunningSums
from mgd.tensors.logits import LOGIT_LOSSES, decoupled_kd
from mgd.tensors.margin import margin_from_norm
from mgd.tensors.reducers import REDUCERS

logger = logging.getLogger(__name__)


class Distilled(NamedTuple):
    """What one forward of a `Distiller` gives."""

    logits: Tensor
    """The student's output as the network returns it: (B, K) for a classifier."""
    point_losses: Float[Tensor, "batch points"]
    """Loss of each image at each point, unweighted; see `mgd.point_weights`."""
    kd_loss: Float[Tensor, " batch"]
    """Loss on the logits of each image; zeros with `kd_temperature=None`."""


METHODS = ("mgd", *BASELINES)
"""What a distiller can do at its points."""


class Distiller(nn.Module):
    """Runs teacher and student on a batch and measures how far the student is from its teacher.

    Matching Guided Distillation (Yue et al., ECCV 2020; not Masked Generative Distillation):
    no adapter is trained, only the student and one BatchNorm a point. The networks are used as
    they are. The teacher is frozen: no gradients, always in eval mode, not in `state_dict()`.

    The matching starts from `example`; `mgd.update_matching` solves it on training images.

    Args:
        teacher: Trained network.
        student: Network to train; may be pretrained.
        points: "auto" discovers them; or pairs `(teacher path, student path)`, see `Tap.parse`;
            or `PointPair`s; from the input to the output of the networks. None, `()`, leaves
            logit KD alone.
        reducer: A name in `REDUCERS`.
        example: A batch of images as the networks take it, (B, C, H, W), on their device.
            Needed.
        kd_temperature: Above 0; `None` for networks whose outputs are not logits (B, K) of
            the same classes.
        solver: As in `mgd.assign`.
        method: "mgd", or a baseline at the same points: "ofd", "fitnet"; see `mgd.baselines`.
        kd: The loss on the logits, a name in `LOGIT_LOSSES`; "dkd" needs the labels in `forward`.
        dkd_beta: As in `mgd.decoupled_kd`.

    Raises:
        InputError: For a name, point or example that cannot be used.

    Example:
        >>> with mgd.Distiller(teacher, student, example=images) as distiller:
        ...     mgd.update_matching(distiller, loader)
        ...     logits, point_losses, kd_loss = distiller(images)
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        points: Literal["auto"] | Sequence[PairLike] = "auto",
        reducer: str = "amp",
        example: Tensor | None = None,
        kd_temperature: float | None = 1.5,
        solver: str = "scipy",
        method: str = "mgd",
        kd: str = "kd",
        dkd_beta: float = 8.0,
    ):
        super().__init__()
        if example is None:
            raise InputError("Distiller needs `example`, a batch of images as the networks take it")
        _check_name("reducer", reducer, REDUCERS)
        _check_name("method", method, METHODS)
        _check_name("kd", kd, LOGIT_LOSSES)
        if kd_temperature is not None and not kd_temperature > 0:
            raise InputError(f"`kd_temperature` (={kd_temperature}) must be above 0, or None")
        self.teacher_precision: torch.dtype | None = None
        """Type of the teacher's arithmetic; `None`: that of the autocast around the forward."""
        self.tracking = False
        """Whether training steps add to the statistics of the points."""
        self.method, self.kd, self.dkd_beta = method, kd, dkd_beta
        self.kd_temperature = kd_temperature
        pairs = _choose(teacher, student, example, points)
        self.tapped_teacher = TappedModel(teacher, [pair.teacher for pair in pairs])
        self.tapped_student = TappedModel(student, [pair.student for pair in pairs])
        self.points = nn.ModuleList(
            MatchedPoint(pair, REDUCERS[reducer], solver)
            if method == "mgd"
            else BASELINES[method](pair)
            for pair in pairs
        ).to(example.device)
        self.matching_is_solved = not self.needs_images
        self._margin_handles: list[RemovableHandle] = []
        self.train(student.training)
        try:
            self._start(example)
        except Exception:
            self.close()
            raise
        teacher.requires_grad_(False)
        # DDP would otherwise send these with every step.
        self._ddp_params_and_buffers_to_ignore = self.constants()
        refresh = _MarginRefresh(self)
        self._margin_handles = [
            teacher.get_submodule(pair.norm).register_load_state_dict_post_hook(refresh)
            for pair in pairs
            if pair.norm is not None
        ]
        self.register_state_dict_post_hook(_drop_teacher)
        self.register_load_state_dict_post_hook(_expect_no_teacher)

    @property
    def teacher(self) -> nn.Module:
        """The teacher, the same object that was given."""
        return self.tapped_teacher.network

    @property
    def student(self) -> nn.Module:
        """The student, the same object that was given."""
        return self.tapped_student.network

    @property
    def needs_images(self) -> bool:
        """Whether there is a matching or a margin to be taken from training images."""
        return any(True for _ in self.running_sums())

    def forward(
        self,
        images: Float[Tensor, "batch colours height width"],
        labels: Int64[Tensor, " batch"] | None = None,
    ) -> Distilled:
        """Runs both networks; see `Distilled`. Losses are float32, one value per image.

        Raises:
            InputError: If the loss on the logits needs labels and there are none.
        """
        if self.training and not self.matching_is_solved:
            logger.warning(
                "the matching comes from `example` alone; call mgd.update_matching first"
            )
            self.matching_is_solved = True
        tracking = self.training and self.tracking
        with torch.no_grad():
            teacher_features, teacher_logits = self._run_teacher(images)
            kept = [
                features if tracking else point.keep(features)
                for point, features in zip(self.iter_points(), teacher_features, strict=True)
            ]
        del teacher_features  # before the student's activations fill the memory
        student_features, logits = self.tapped_student(images)
        if tracking:
            self._observe(student_features, kept)
        losses = [
            point(student, kept.pop(0))  # and is let go as soon as it is used
            for point, student in zip(self.points, student_features, strict=True)
        ]
        zeros = torch.zeros(len(images), device=images.device)
        kd_loss = zeros
        if self.kd_temperature is not None:
            kd_loss = self._kd(logits, teacher_logits, labels)
        point_losses = torch.stack(losses, dim=1) if losses else zeros[:, None][:, :0]
        return Distilled(logits, point_losses, kd_loss)

    def _kd(self, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        assert self.kd_temperature is not None
        if self.kd != "dkd":
            return LOGIT_LOSSES[self.kd].loss(student, teacher, self.kd_temperature)
        if labels is None:
            raise InputError("kd='dkd' looks at the label's class: call distiller(images, labels)")
        return decoupled_kd(student, teacher, labels, self.kd_temperature, self.dkd_beta)

    @torch.no_grad()
    def observe(self, images: Float[Tensor, "batch colours height width"]) -> None:
        """Adds a batch to every point's statistics, both networks in eval mode."""
        with evaluating(self):
            teacher_features, _ = self._run_teacher(images)
            student_features, _ = self.tapped_student(images)
        self._observe(student_features, teacher_features)

    @torch.no_grad()
    def _observe(self, student_features: Iterable[Tensor], teacher_features: Iterable[Any]) -> None:
        for point, student, teacher in zip(
            self.iter_points(), student_features, teacher_features, strict=True
        ):
            point.observe(student, teacher)

    def _run_teacher(self, images: Tensor) -> tuple[tuple[Tensor, ...], Any]:
        precision = self.teacher_precision
        if precision is None:
            return self.tapped_teacher(images)  # type: ignore[no-any-return]
        enabled = precision != torch.float32
        with torch.autocast(images.device.type, precision if enabled else None, enabled):
            return self.tapped_teacher(images)  # type: ignore[no-any-return]

    def constants(self) -> list[str]:
        """Names what never changes within an epoch: the teacher, the matchings, the margins."""
        teacher = [f"tapped_teacher.{name}" for name in self.tapped_teacher.state_dict()]
        points = [
            f"points.{name}" for name, _ in self.points.named_buffers() if ".norm." not in name
        ]
        return teacher + points

    def iter_points(self) -> Iterator[DistillationPoint]:
        """Yields the points, typed."""
        for point in self.points:
            assert isinstance(point, DistillationPoint)
            yield point

    def matched_points(self) -> Iterator[MatchedPoint]:
        """Yields the points that have a matching: all with method "mgd", none with a baseline."""
        return (point for point in self.iter_points() if isinstance(point, MatchedPoint))

    def running_sums(self) -> Iterator[RunningSums]:
        """Yields the statistics of all points."""
        for point in self.iter_points():
            yield from point.running_sums()

    def update_margins(self) -> None:
        """Recomputes every margin: from the teacher's BatchNorm, or else from the features seen.

        Happens by itself when teacher weights are loaded and when the matching is updated.
        """
        for point in self.iter_points():
            if point.running_margin is not None:
                point.margin.copy_(point.running_margin.compute())
                continue
            assert point.pair.norm is not None
            norm = self.teacher.get_submodule(point.pair.norm)
            if not isinstance(norm, _BatchNorm):
                raise InputError(
                    f"point '{point.pair.name}': '{point.pair.norm}' is a "
                    f"{type(norm).__name__}; the margin needs a BatchNorm, or none to measure it"
                )
            point.margin.copy_(margin_from_norm(norm))

    def _start(self, example: Tensor) -> None:
        """Checks both networks on the example and takes a first matching and margins from it."""
        with evaluating(self), torch.no_grad():
            self.tapped_teacher.check(example)
            self.tapped_student.check(example)
            _, teacher_logits = self.tapped_teacher(example)
            _, student_logits = self.tapped_student(example)
        if self.kd_temperature is not None:
            _check_logits(teacher_logits, student_logits)
        self.observe(example)
        for point in self.matched_points():
            _warn_of_dead_channels(point)
            point.matcher.solve()
        self.update_margins()

    def train(self, mode: bool = True) -> "Distiller":
        """Sets the mode of student and norms; the teacher stays in eval mode."""
        super().train(mode)
        self.tapped_teacher.eval()
        return self

    def close(self) -> None:
        """Takes every hook out of both networks; the distiller cannot be used afterwards."""
        self.tapped_teacher.close()
        self.tapped_student.close()
        for handle in self._margin_handles:
            handle.remove()

    def __enter__(self) -> "Distiller":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _MarginRefresh:
    """Renews the margins when weights are loaded into the teacher; inert in copies of it."""

    def __init__(self, distiller: Distiller | None = None):
        self.distiller = weakref.ref(distiller) if distiller is not None else lambda: None

    def __reduce__(self) -> tuple[type["_MarginRefresh"], tuple[()]]:
        return _MarginRefresh, ()

    def __call__(self, module: nn.Module, incompatible: Any) -> None:
        distiller = self.distiller()
        if distiller is not None:
            distiller.update_margins()


def _check_name(what: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        raise InputError(f"unknown {what} '{name}'; choose one of {', '.join(known)}")


def _choose(
    teacher: nn.Module,
    student: nn.Module,
    example: Tensor,
    points: Literal["auto"] | Sequence[PairLike],
) -> list[PointPair]:
    if not isinstance(points, str):
        return resolve_points(teacher, student, example, points)
    if points != "auto":
        raise InputError(
            f"points '{points}' are unknown; give 'auto' or pairs (teacher path, student path)"
        )
    return discover_points(teacher, student, example)


def _warn_of_dead_channels(point: MatchedPoint) -> None:
    """Counts the channels that are zero everywhere: those have distance 2 to all others."""
    is_dead = point.matcher.compute() == 2
    for side, tap, dead in (
        ("teacher", point.pair.teacher, is_dead.all(0)),
        ("student", point.pair.student, is_dead.all(1)),
    ):
        if dead.any():
            logger.warning(
                "%s tap '%s': %d of %d channels are zero on every image of the example",
                *(side, tap, int(dead.sum()), len(dead)),
            )


def _check_logits(teacher: Any, student: Any) -> None:
    shapes = [
        tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__ for x in (teacher, student)
    ]
    if shapes[0] != shapes[1] or not isinstance(student, Tensor) or student.dim() != 2:
        raise InputError(
            f"teacher output {shapes[0]} and student output {shapes[1]} are no logits of the same "
            "classes; pass kd_temperature=None to distil features alone"
        )


def _drop_teacher(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    for key in [key for key in state if key.startswith(f"{prefix}tapped_teacher.")]:
        del state[key]


def _expect_no_teacher(module: Distiller, incompatible: Any) -> None:
    module.matching_is_solved = True
    incompatible.missing_keys[:] = [
        key for key in incompatible.missing_keys if "tapped_teacher." not in key
    ]
