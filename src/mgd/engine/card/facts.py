"""Facts: what a model card says of a run, from its options, its data and its networks."""

from collections.abc import Mapping, Sized
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Protocol, runtime_checkable

from mgd.data.splits import Splits
from mgd.engine.options.config import RunConfig
from mgd.engine.tasks.classifiers import Classifiers
from mgd.runfolder import OptionsChange, RunResult, read_changes, read_epochs
from mgd.views import View

_SHOWN = ("epochs", "batch-size", "learning-rate", "lr-schedule", "wd", "augment", "seed")
"""Options that are told in any case."""
_ASIDE = (
    *("data", "arch", "teacher", "teacher-resume", "student-resume", "output", "experiment"),
    *("evaluate", "tensorboard", "print-freq", "checkpoint-every", "workers", "gpu", "rank"),
    *("dist-url", "skip-bad-images", "world-size", "pretrained"),
)
"""Options that say where a run was computed, or that the card tells elsewhere."""


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a model card tells of any run."""

    folder: Path
    arch: str
    classes: tuple[str, ...]
    data: str
    """Name of the folder of images."""
    train_images: int
    valid_images: int
    test_images: int
    """0 where no images are left that chose nothing."""
    start: str
    """The student's weights before the training."""
    base_model: str
    """Name on Hugging Face's hub of the weights it began with; empty where there are none."""
    method: str
    """As in `--distiller`."""
    reducer: str
    logit_loss: str
    """Of MGD and KD, as in `--kd`; empty without."""
    teacher: str
    """Network; empty without a teacher."""
    teacher_weights: str
    keeps_last: bool
    """Whether the weights are those of the last epoch, and not of the best."""
    result: RunResult
    options: Mapping[str, Any]
    """Those that matter, by the flag without its dashes."""
    changes: tuple[OptionsChange, ...]
    """Where the run was resumed with other options."""

    @property
    def command(self) -> str:
        """The command that makes such a run."""
        return "distill" if self.teacher else "train"


@dataclass(frozen=True, kw_only=True)
class Facts(RunFacts):
    """What a model card tells of a classifier."""

    pruned: bool
    """Whether it has fewer channels than its library gives it."""
    view: View
    unlabelled_images: int


def facts_of(
    folder: Path, config: RunConfig, splits: Splits, classifiers: Classifiers, result: RunResult
) -> Facts:
    """Returns what a card tells of a run that has ended.

    Args:
        folder: Of the run.
        config: Its options.
        splits: Its images.
        classifiers: Its networks.
        result: What it came to.
    """
    student = classifiers.student
    return Facts(
        **facts_of_any(folder, config, splits, student, classifiers.teacher, result),
        base_model=base_model(config, student.network),
        classes=classifiers.classes,
        pruned=student.pruned,
        view=student.view,
        unlabelled_images=len(splits.unlabelled) if splits.unlabelled is not None else 0,
    )


@runtime_checkable
class Network(Protocol):
    """A network of a run."""

    @property
    def name(self) -> str:
        """As in its option."""

    @property
    def weights(self) -> str:
        """Where its weights come from."""


@runtime_checkable
class Images(Protocol):
    """The images of a run."""

    @property
    def train(self) -> Sized:
        """Those with labels to train on."""

    @property
    def valid(self) -> Sized:
        """Those that choose the epoch."""

    @property
    def test(self) -> Sized | None:
        """Those that choose nothing."""


def facts_of_any(
    folder: Path,
    config: RunConfig,
    images: Images,
    student: Network,
    teacher: Network | None,
    result: RunResult,
) -> dict[str, Any]:
    """Returns the values of `RunFacts` that do not depend on what the networks find.

    Args:
        folder: Of the run.
        config: Its options.
        images: Its images.
        student, teacher: Its networks.
        result: What it came to.
    """
    # Whether it was added may depend on the number of labels, so what was recorded tells it.
    has_logit_loss = any("loss_kd" in record.losses for record in read_epochs(folder))
    distillation = config.distillation
    return {
        "folder": folder,
        "arch": student.name,
        "data": PurePath(config.data.data).name or config.data.data,
        "train_images": len(images.train),
        "valid_images": len(images.valid),
        "test_images": len(images.test) if images.test is not None else 0,
        "start": _short(student.weights),
        "method": distillation.distiller,
        "reducer": distillation.mgd_reducer,
        "logit_loss": distillation.kd if has_logit_loss else "",
        "teacher": teacher.name if teacher is not None else "",
        "teacher_weights": _short(teacher.weights) if teacher is not None else "",
        "keeps_last": config.schedule.keep_epoch == "last",
        "result": result,
        "options": _options(config),
        "changes": tuple(read_changes(folder)),
    }


def _short(weights: str) -> str:
    """Returns where weights come from; of a path the last two parts, which tell no other folder."""
    return str(PurePath(*PurePath(weights).parts[-2:])) if weights else ""


def base_model(config: RunConfig, network: Any) -> str:
    """Returns the name on the hub of the published weights that a student began with.

    Args:
        config: The run.
        network: The student; timm's tell it.

    Returns:
        The name; empty where it began with others, or with weights that are not on the hub.
    """
    networks = config.networks
    if networks.student_resume or not (networks.use_pretrained == 1 or networks.pretrained):
        return ""
    library, _, name = config.student_name.partition(":")
    if library == "hf":
        return "" if Path(name).exists() else name
    if library != "timm":
        return ""
    told = getattr(network, "pretrained_cfg", None) or {}
    place = str(told.get("hf_hub_id") or "")
    tagged = ".".join(filter(None, (told.get("architecture"), told.get("tag"))))
    return f"{place}{tagged}" if place.endswith("/") and tagged else place


def _options(config: RunConfig) -> dict[str, Any]:
    """Returns the options that are always told, and those that differ from their default."""
    given, default = config.flat(), RunConfig().flat()
    told = (*_SHOWN, *_ASIDE)
    changed = [name for name in given if name not in told and given[name] != default[name]]
    return {name: given[name] for name in (*_SHOWN, *changed)}
