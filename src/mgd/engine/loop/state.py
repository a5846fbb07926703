"""State: what a checkpoint holds of a trainer, and how a trainer goes back to it."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mgd.engine.loop.checkpoint import State, save_checkpoint, save_student
from mgd.errors import InputError
from mgd.runfolder import EpochRecord, RunFolder, names, write_whole

if TYPE_CHECKING:
    from mgd.engine.loop.trainer import Trainer

logger = logging.getLogger(__name__)

_SAME = ("arch", "teacher", "distiller", "mgd-reducer", "mgd-with-kd", "batch-size")


def save_epoch(trainer: "Trainer", folder: RunFolder, record: EpochRecord, is_best: bool) -> None:
    """Writes all that an epoch leaves; `last.ckpt` comes last, so that a kill repeats the epoch."""
    folder.add_epoch(record)
    if is_best:
        save_checkpoint(capture(trainer), folder.path / names.BEST_CHECKPOINT)
        save_student(trainer.objective.student, folder.path / names.STUDENT)
    save_last(trainer, folder)


def save_last(trainer: "Trainer", folder: RunFolder) -> None:
    """Writes `last.ckpt` and keeps the one before."""
    save_checkpoint(capture(trainer), folder.path / names.LAST_CHECKPOINT, keep_previous=True)


def adopt_best(trainer: "Trainer", folder: RunFolder, source: Path) -> None:
    """Takes the best epoch along where a run goes on in another folder than it began in."""
    if source.resolve() == folder.path.resolve():
        return
    for name in (names.BEST_CHECKPOINT, names.STUDENT):
        if not (source / name).is_file():
            trainer.best = {"epoch": -1, "top1": -1.0, "top5": -1.0}  # the next epoch is the best
            return
        content = (source / name).read_bytes()
        write_whole(folder.path / name, lambda file, content=content: file.write(content))  # type: ignore[misc]


def capture(trainer: "Trainer") -> State:
    """Returns all that a resumed run needs, as tensors and primitives."""
    distiller = trainer.distiller
    return {
        "student": trainer.objective.student.state_dict(),
        "distiller": distiller.points.state_dict() if distiller else {},
        "optimizer": trainer.optimizer.state_dict(),
        "scheduler": trainer.scheduler.state_dict(),
        "precision": trainer.fabric.strategy.precision.state_dict(),
        "rng": torch.get_rng_state(),
        "epoch": trainer.epoch,
        "step": trainer.step,
        "best": trainer.best,
        "sums": trainer.meter.sums,
        "skipped": trainer.watch.skipped,
        "images": len(trainer.pipeline.splits.train),
        "matching": trainer.matching,
        "config": trainer.config.flat(),
    }


def restore(trainer: "Trainer", state: State) -> None:
    """Takes a trainer back to a state.

    Raises:
        InputError: If it belongs to other networks or another method, or is not whole.
    """
    try:
        _check_values(state)
        _check_config(trainer, state)
        _restore(trainer, state)
    except InputError:
        raise
    except KeyError as error:
        raise InputError(
            f"the checkpoint has no {error}; it is of another program or version: resume from a "
            f"run's {names.LAST_CHECKPOINT}"
        ) from error
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
        # What torch raises where a state dict is of other shapes, names or types.
        raise InputError(
            "the checkpoint does not fit: its data had other classes, or its --points were "
            f"others; give the options of its {names.ARGS}, or another --experiment"
        ) from error


def _check_values(state: State) -> None:
    """Refuses what the loop could not count with; a checksum says nothing about sense."""
    for name in ("epoch", "step", "skipped", "images"):
        value = state.get(name, 0)
        if type(value) is not int or not 0 <= value < 2**53:
            raise InputError(
                f"the checkpoint's {name} is {value!r}, not a whole number; use another copy"
            )
    best, matching = state["best"], state["matching"]
    numbers = [best[name] for name in ("epoch", "top1", "top5")]
    numbers += [matching[name] for name in ("matching_cost", "matching_churn")]
    if not all(isinstance(number, (int, float)) for number in numbers):
        raise InputError("the checkpoint's scores are no numbers; use another copy")


def _check_config(trainer: "Trainer", state: State) -> None:
    config = trainer.config.flat()
    for name in _SAME:
        if state["config"].get(name) != config[name]:
            raise InputError(
                f"the checkpoint was made with --{name} {state['config'].get(name)}, not "
                f"{config[name]}; give the same, or another --experiment"
            )


def _restore(trainer: "Trainer", state: State) -> None:
    trainer.objective.student.load_state_dict(state["student"])
    if trainer.distiller is not None:
        trainer.distiller.points.load_state_dict(state["distiller"])
        trainer.distiller.matching_is_solved = True
    trainer.optimizer.load_state_dict(state["optimizer"])
    trainer.scheduler.load_state_dict(state["scheduler"])
    trainer.fabric.strategy.precision.load_state_dict(state["precision"])
    torch.set_rng_state(state["rng"])
    trainer.epoch, trainer.best = int(state["epoch"]), dict(state["best"])
    trainer.step = min(int(state["step"]), trainer.pipeline.train_batches.num_batches)
    trainer.matching = dict(state["matching"])
    trainer.watch.skipped = int(state.get("skipped", 0))
    trainer.tracking.restore(trainer.step)
    if trainer.fabric.is_global_zero:  # whose sums are those of all ranks
        trainer.meter.sums.copy_(state["sums"])
    images = len(trainer.pipeline.splits.train)
    if state.get("images", images) != images:
        logger.warning(
            "the checkpoint was made with %s training images, there are %d now: the run goes on, "
            "but not as it would have without a stop",
            *(state["images"], images),
        )
