"""State: what a checkpoint holds of a trainer, and how a trainer goes back to it."""

import logging
from typing import TYPE_CHECKING

import torch

from mgd.engine.checkpoint import State, save_checkpoint, save_student
from mgd.engine.runlog import Row, RunFolder
from mgd.errors import InputError

if TYPE_CHECKING:
    from mgd.engine.trainer import Trainer

logger = logging.getLogger(__name__)

_SAME = ("arch", "teacher", "distiller", "mgd-reducer", "mgd-with-kd", "batch-size")


def save_epoch(trainer: "Trainer", folder: RunFolder, row: Row, is_best: bool) -> None:
    """Writes all that an epoch leaves; `last.ckpt` comes last, so that a kill repeats the epoch."""
    folder.add_row(row)
    if is_best:
        save_checkpoint(capture(trainer), folder.path / "best.ckpt")
        save_student(trainer.objective.student, folder.path / "student.safetensors")
    save_last(trainer, folder)


def save_last(trainer: "Trainer", folder: RunFolder) -> None:
    """Writes `last.ckpt` and keeps the one before."""
    save_checkpoint(capture(trainer), folder.path / "last.ckpt", keep_previous=True)


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
        _check_config(trainer, state)
        _restore(trainer, state)
    except InputError:
        raise
    except KeyError as error:
        raise InputError(
            f"the checkpoint has no {error}; it is of another program or version: resume from a "
            "run's last.ckpt"
        ) from error
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
        # What torch raises where a state dict is of other shapes, names or types.
        raise InputError(
            "the checkpoint does not fit: its data had other classes, or its --points were "
            "others; give the options of its args.yaml, or another --experiment"
        ) from error


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
    if trainer.fabric.is_global_zero:  # whose sums are those of all ranks
        trainer.meter.sums.copy_(state["sums"])
    images = len(trainer.pipeline.splits.train)
    if state.get("images", images) != images:
        logger.warning(
            "the checkpoint was made with %s training images, there are %d now: the run goes on, "
            "but not as it would have without a stop",
            *(state["images"], images),
        )
