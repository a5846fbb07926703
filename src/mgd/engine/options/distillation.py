"""Options of the distillation: what the student learns from its teacher."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from mgd.engine.options.option import Command, Group, OneOf, Switch, option
from mgd.method.choices import METHODS
from mgd.tensors.assignment import SOLVERS
from mgd.tensors.logits import LOGIT_LOSSES
from mgd.tensors.reducers import REDUCERS


@dataclass(frozen=True, kw_only=True)
class DistillationConfig(Group):
    """Distillation."""

    listed_for: ClassVar[tuple[Command, ...]] = ("distill",)

    distiller: Annotated[str, OneOf(("none", "kd"), METHODS, or_code=True)] = option(
        "none",
        "mgd: Matching Guided Distillation; mgd-adapter: with learned 1x1 convolutions that start "
        "as the matching, which is then solved once; kd: logits only; fitnet, ofd: features "
        "through learned 1x1 convolutions that start at random, with the squared distance or the "
        "partial L2; CODE: package.module:name of a loss of your own at the points; none: no "
        "teacher",
        brief="method of distillation",
    )
    mgd_reducer: Annotated[str, OneOf(REDUCERS)] = option(
        "amp",
        "how the teacher channels of a student channel become one target. "
        + "; ".join(f"{name}: {reducer.title}" for name, reducer in REDUCERS.items()),
        brief="how teacher channels become one",
    )
    mgd_update_freq: int = option(
        1,
        "epochs between updates of the matching; 0: one update, before the first epoch",
        least=0,
        brief="epochs between updates of the matching",
    )
    mgd_with_kd: Switch | None = option(
        None,
        "1: add the loss on the logits to that of the features; 0: do not; default: only with "
        "--unlabelled, at the weight that --kd-weight says",
        brief="1: add the loss on the logits",
    )
    mgd_images: int = option(
        20_000, "number of training images that an update of the matching uses", least=1
    )
    mgd_tracking: Literal["pass", "online"] = option(
        "pass",
        "source of the channel distances. pass: both networks see --mgd-images training "
        "images before each update; online: from the training steps before the update, so that "
        "only the first update needs a pass",
    )
    mgd_solver: Annotated[str, OneOf(SOLVERS)] = option(
        "scipy",
        "how the assignment is solved. scipy and ortools find the least total distance; original "
        "does so without the last T mod S of T teacher channels for S student channels; random "
        "ignores the distances",
    )
    points: str = option(
        "",
        "places where features are compared. auto: found from the shapes of the features; FILE: "
        "YAML as `mgd points --format yaml` writes it; default: the published points where the "
        "pair is built in, else auto",
        shown="auto|FILE",
    )
    loss_factor: float | Literal["auto"] = option(
        "auto",
        "divisor of the feature loss, which is a sum over elements; auto: the divisor that gives "
        "--feature-weight. A number makes --feature-weight unused",
        above=0,
    )
    feature_weight: float | Literal["auto"] = option(
        "auto",
        "target weight of the feature loss per element; auto: 20, with mgd-adapter 60, and less "
        "for few elements",
        former=("--loss-worth",),
        above=0,
        brief="weight of the feature loss",
    )
    ce_weight: float | Literal["auto"] = option(
        "auto",
        "weight of the cross-entropy with the labels; 0: the student learns from its teacher "
        "alone; auto: 1, and 0.5 where --kd-weight auto is 0.5",
        least=0,
    )
    kd: Annotated[str, OneOf(LOGIT_LOSSES)] = option(
        "kd",
        "loss on the logits. "
        + "; ".join(f"{name}: {loss.title}" for name, loss in LOGIT_LOSSES.items()),
    )
    kd_temperature: float = option(
        1.5, "temperature, which divides both networks' logits in the loss on them", above=0
    )
    dkd_beta: float = option(
        8.0, "weight of the classes other than the label's, for --kd dkd", least=0
    )
    kd_weight: float | Literal["auto"] = option(
        "auto",
        "weight of the loss on the logits. auto: 1 with --distiller kd and with --mgd-with-kd 1; "
        "but from 100 labelled images of a class on, logits beside the features share a weight of "
        "1 with the labels, 0.5 each, unless --ce-weight is given, or some images have no label; "
        "without --mgd-with-kd, with --unlabelled, 1 - n / 100 for n labelled images of a class, "
        "and 0 from 100 on",
        least=0,
        brief="weight of the loss on the logits",
    )
    teacher_views: int = option(
        0,
        "fixed views of each image: epoch e shows an image as epoch e mod K does. The teacher runs "
        "in the steps of the first K epochs; its answers are kept on the disk, and it rests then. "
        "0: another view in every epoch, and the teacher runs in all",
        least=0,
        shown="K",
    )
    teacher_views_gib: float = option(
        20.0,
        "most of the teacher's answers to keep, in GiB; a run that would need more is refused",
        above=0,
    )
    teacher_views_dir: str = option(
        "",
        "folder to keep the teacher's answers in, which other runs with the same images, teacher "
        "and views use too; default: in the run folder",
        shown="DIR",
    )

    @property
    def fixed_views(self) -> int:
        """Number of fixed views of each image; 0 where every epoch has its own."""
        return self.teacher_views if self.distiller != "none" else 0

    @property
    def asks_for_logits(self) -> bool:
        """Whether the student is to learn from the teacher's logits, whatever else there is."""
        return self.distiller == "kd" or (self.distiller != "none" and self.mgd_with_kd == 1)

    @property
    def logit_weight(self) -> float:
        """The weight of the loss on the logits; 0 where nothing asks for it."""
        if not self.asks_for_logits:
            return 0.0
        return 1.0 if self.kd_weight == "auto" else self.kd_weight

    @property
    def label_weight(self) -> float:
        """The weight of the cross-entropy with the labels."""
        return 1.0 if self.ce_weight == "auto" else self.ce_weight
