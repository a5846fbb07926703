"""State: what a checkpoint holds, put together from what each owner gives."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import torch

from mgd.engine.loop.checkpoint import State
from mgd.engine.options.config import RunConfig
from mgd.errors import InputError
from mgd.runfolder import names

_SAME = (
    *("arch", "teacher", "distiller", "mgd-reducer", "mgd-with-kd", "batch-size"),
    *("grad-accum-steps", "opt", "norm-weight-decay", "bias-weight-decay", "model-ema"),
)
"""Options that a resumed run must share with the run that was saved."""
_FREE = {"output", "experiment", "start-epoch", "workers", "print-freq", "checkpoint-every"}
_FREE |= {"tensorboard", "log", "rank", "dist-url", "teacher-views-dir", "teacher-views-gib"}
"""Options that may change without a word: what a resumed run computes does not depend on them."""

_CALLED_NOW = {"mgd-with-kd": (0, None), "kd-weight": (1.0, "auto")}
"""Defaults until version 0.2.0, and today's, which mean the same where all images have labels."""


_MISFITS = (RuntimeError, ValueError, TypeError, AttributeError, IndexError, ArithmeticError)
"""What is raised where a state dict is of other shapes, names, types or values."""


@runtime_checkable  # so that the tests can check it where it is an argument
class Owner(Protocol):
    """Whatever knows its own state."""

    def state_dict(self) -> dict[str, Any]:
        """Returns it, as tensors and primitives in dicts and lists."""

    def load_state_dict(self, state: Any) -> Any:
        """Goes back to it."""


class RunState:
    """Collects the state of a run, and hands it back.

    Args:
        config: The run's options, saved and compared.
        flat: Owners whose entries stand at the top of a checkpoint: task and progress.
        named: Owners whose state stands under a name.
    """

    def __init__(self, config: RunConfig, flat: list[Owner], named: Mapping[str, Owner]):
        self.config, self.flat, self.named = config, flat, named
        self.changes = ""
        """What a loaded state had otherwise, as `--epochs 30 -> 40, ...`."""
        self.earlier: dict[str, Any] | None = None
        """All options of a loaded state, if the run goes on with others."""

    def state_dict(self) -> State:
        """Returns all that a resumed run needs."""
        state: State = {}
        for owner in self.flat:
            state |= owner.state_dict()
        state |= {name: owner.state_dict() for name, owner in self.named.items()}
        return {**state, "rng": torch.get_rng_state(), "config": self.config.flat()}

    def load_state_dict(self, state: State) -> None:
        """Gives every owner its part.

        Raises:
            InputError: If the state belongs to other networks or another method, or is not whole.
        """
        with _telling_of_misfits():
            self._compare_options(state["config"])
            for owner in self.flat:
                owner.load_state_dict(state)
            for name, owner in self.named.items():
                owner.load_state_dict(state[name])
            torch.set_rng_state(state["rng"])

    def _compare_options(self, saved: Mapping[str, Any]) -> None:
        options = self.config.flat()
        if not options["unlabelled"]:
            saved = {name: _called_now(name, value) for name, value in saved.items()}
            options = {name: _called_now(name, value) for name, value in options.items()}
        # A later version may have an option more: the run was made with its default.
        earlier = RunConfig().flat() | {name: saved[name] for name in options if name in saved}
        for name in _SAME:
            if earlier[name] != options[name]:
                raise InputError(
                    f"the checkpoint was made with --{name} {earlier[name]}, not "
                    f"{options[name]}; give the same, or another --experiment"
                )
        json.dumps(earlier)  # raises where a forged file has tensors in the place of options
        changed = [n for n in options if n not in _FREE and earlier[n] != options[n]]
        self.changes = ", ".join(_change(n, earlier[n], options[n]) for n in changed)
        self.earlier = earlier if changed else None


def _called_now(name: str, value: Any) -> Any:
    then, now = _CALLED_NOW.get(name, (None, None))
    return now if name in _CALLED_NOW and value == then else value


def _change(name: str, before: Any, after: Any) -> str:
    flag = "DATA" if name == "data" else f"--{name}"
    return f"{flag} {_shown(before)} -> {_shown(after)}"


def _shown(value: Any) -> str:
    if value is None or value is False or value == "":
        return "(not given)"
    if isinstance(value, list):
        return " ".join(map(str, value)) or "(none)"
    return "(given)" if value is True else str(value)


@contextmanager
def _telling_of_misfits() -> Iterator[None]:
    """Turns what goes wrong while a state is loaded into one line."""
    try:
        yield
    except InputError:
        raise
    except KeyError as error:
        raise InputError(
            f"the checkpoint has no {error}; it is of another program or version: resume from a "
            f"run's {names.LAST_CHECKPOINT}"
        ) from error
    except _MISFITS as error:
        raise InputError(
            "the checkpoint does not fit: its data had other classes, or its --points were "
            f"others; give the options of its {names.ARGS}, or another --experiment"
        ) from error
