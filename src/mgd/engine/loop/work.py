"""Work: one kind of run from its files to its result, and the order that all kinds have."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from lightning_fabric import Fabric
from torch import Tensor

from mgd import ranks
from mgd.engine.loop.checkpoint import load_checkpoint
from mgd.engine.loop.gallery import finish_gallery
from mgd.engine.loop.place import find_folder, take_along
from mgd.engine.loop.runlog import Reporter, RunLog
from mgd.engine.loop.supply import Measured, Supply
from mgd.engine.loop.trainer import Trainer
from mgd.engine.loop.workers import telling_of_dead_workers
from mgd.engine.options.config import RunConfig
from mgd.engine.runtime.environment import describe_start
from mgd.engine.tasks.task import Task
from mgd.errors import InputError
from mgd.runfolder import RunResult, Start, names, read_epochs, write_bad_images

Outcome = TypeVar("Outcome")


class Work(ABC, Generic[Outcome]):
    """One kind of run, such as that of classifiers.

    `run_work` calls the methods in the order in which they stand here.

    Args:
        fabric: Launched.
        config: The run.
        reporter: Told what happens; it is silent on all ranks but rank 0.
    """

    def __init__(self, fabric: Fabric, config: RunConfig, reporter: Reporter):
        self.fabric, self.config, self.reporter = fabric, config, reporter
        self.bad_images: list[str] = []
        """Files left out with --skip-bad-images, and why."""

    @abstractmethod
    def load(self) -> None:
        """Finds the data and builds the networks; nothing is written yet."""

    @abstractmethod
    def begin(self, folder: Path) -> tuple[Supply, Task]:
        """Cuts the data and makes the task, while the run folder is held.

        Args:
            folder: Of the run. Nothing is written before the first step.
        """

    @abstractmethod
    def measure_teacher(self) -> Measured | None:
        """Measures the teacher before it teaches; None where there is none that can be.

        The networks are on their devices now.
        """

    def sample(self, epoch: int) -> Tensor | None:
        """Returns what the augmentation makes of images, RGB, uint8 (3, H, W), for other logs."""
        return None

    @abstractmethod
    def finish(self, trainer: Trainer, folder: Path, teacher: Any, start: float) -> Outcome:
        """Measures the weights of the best epoch, which the student has now.

        Args:
            trainer: Has trained.
            folder: Of the run, where rank 0 may write.
            teacher: What `measure_teacher` found.
            start: When the run began, on the clock of `time.perf_counter`.
        """

    @abstractmethod
    def result(self, outcome: Outcome) -> RunResult:
        """Returns what is kept of the outcome."""

    def describe(self, folder: Path, result: RunResult) -> None:
        """Writes what else belongs into the run folder; rank 0 alone calls it."""
        return


@telling_of_dead_workers()
def run_work(
    fabric: Fabric,
    config: RunConfig,
    *,
    make: Callable[[Fabric, RunConfig, Reporter], Work[Outcome]],
    reporter: Reporter,
    command: Sequence[str] = (),
) -> Outcome:
    """Trains on this rank and leaves a run folder.

    Args:
        fabric: Launched.
        config: The run.
        make: Makes the work; the config may be completed by it.
        reporter: Told what happens.
        command: Words of the command line that asked for the run.

    Raises:
        InputError: For anything that cannot be used; what is found before training starts leaves
            no folder behind.
    """
    start = time.perf_counter()
    reporter = reporter if fabric.is_global_zero else Reporter()
    work = make(fabric, config, reporter)
    path, state = find_folder(work.config)
    fabric.seed_everything(work.config.schedule.seed, verbose=False)
    work.load()
    fabric.barrier()  # rank 0 makes the folder once every rank has looked for checkpoints
    log = RunLog(path, work.config) if fabric.is_global_zero else None
    trainer: Trainer | None = None
    has_begun = False
    try:
        trainer = _trainer(work, path)
        if state is not None:
            trainer.state.load_state_dict(state)
            place = trainer.progress
            reporter.message(f"going on with '{path}' at epoch {place.epoch}, step {place.step}")
        begun = describe_start(fabric, command, trainer.progress.epoch, trainer.progress.step)
        teacher = work.measure_teacher()
        if log is not None:
            log.columns = trainer.columns(teacher)
            start -= _begin(log, trainer, work.bad_images, begun)
        has_begun = True
        if log is not None and log.open_others(trainer.progress.epoch):
            _show_sample(log, work, trainer.progress.epoch)
        trainer.fit(log, teacher)
        _take_best(trainer, path)
        outcome = work.finish(trainer, path, teacher, start)
        _conclude(work, trainer, log, outcome)
    except InputError:
        if log is not None and not has_begun:
            log.discard()
        raise
    finally:
        reporter.close()
        if trainer is not None:
            trainer.task.close()
        if log is not None:
            log.close()
    return outcome


def _trainer(work: Work[Any], path: Path) -> Trainer:
    supply, task = work.begin(path)
    try:
        return Trainer(work.fabric, work.config, supply, task, work.reporter, path)
    except Exception:
        task.close()
        raise


def _begin(log: RunLog, trainer: Trainer, bad_images: list[str], begun: Start) -> float:
    """Makes the run folder that of this run, as far as it has come.

    Returns:
        The seconds that earlier processes of this run took, which count as well.
    """
    config, path = trainer.config, log.path
    if config.data.skip_bad_images:
        trainer.reporter.message(write_bad_images(path, bad_images))
    log.keep_epochs_before(trainer.progress.epoch)
    if config.output.resume not in ("", "auto"):
        take_along(trainer.progress, path, Path(config.output.resume).parent)
    log.add_start(begun)
    return sum(record.seconds for record in read_epochs(path))


def _show_sample(log: RunLog, work: Work[Any], epoch: int) -> None:
    sample = work.sample(epoch)
    if sample is not None:
        log.add_image("training images as the student sees them", sample, epoch)


def _take_best(trainer: Trainer, path: Path) -> None:
    """Gives every rank's student the weights of the best epoch."""
    student = trainer.task.student
    if trainer.fabric.is_global_zero and (path / names.BEST_CHECKPOINT).exists():
        student.load_state_dict(load_checkpoint(path / names.BEST_CHECKPOINT)["student"])
    ranks.share(student.state_dict().values())


def _conclude(work: Work[Outcome], trainer: Trainer, log: RunLog | None, outcome: Outcome) -> None:
    """Writes what the run came to; every rank calls it, and rank 0 has a log."""
    finish_gallery(trainer.task, trainer.pipeline, None if log is None else log.path)
    if log is not None:
        result = work.result(outcome)
        log.write_result(result)
        work.describe(log.path, result)


def trained_parameters(trainer: Trainer) -> int:
    """Returns how many parameters the optimizer has."""
    groups = trainer.updates.optimizer.param_groups
    return sum(p.numel() for group in groups for p in group["params"])
