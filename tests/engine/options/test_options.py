"""Options: what a field's annotation says, and the checks between options."""

from dataclasses import dataclass
from typing import Annotated, Literal, get_args, get_type_hints

import pytest

from mgd.data.transforms import Augment
from mgd.engine.options.checks import TEACHER_OPTIONS, check_teacher_is_used
from mgd.engine.options.config import GROUPS, OPTIONS, RunConfig
from mgd.engine.options.option import Group, OneOf, option, options_of
from mgd.errors import InputError
from mgd.method.choices import METHODS
from mgd.tensors.assignment import SOLVERS
from mgd.tensors.logits import LOGIT_LOSSES
from mgd.tensors.reducers import REDUCERS


@dataclass(frozen=True, kw_only=True)
class Sample(Group):
    """One option of each kind."""

    count: int = option(1, "count", least=1)
    rate: float | Literal["auto"] = option("auto", "rate", above=0, flags=("-r", "--speed"))
    share: float = option(0.5, "share", least=0, most=1)
    name: str = option("", "name")
    color: Literal["red", "blue"] = option("red", "colour")
    tone: Literal["", "dark"] = option("", "tone")
    switch: Literal[0, 1] | None = option(None, "switch")
    gpu: int | None = option(None, "number")
    epochs: tuple[int, ...] = option((1, 2), "epochs")
    tool: Annotated[str, OneOf({"saw": 1}, ("axe",))] = option("saw", "tool")
    loud: bool = option(False, "loud")


SAMPLE = {item.name: item for item in options_of(Sample)}


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("count", ()),
        ("rate", ()),
        ("color", ("red", "blue")),
        ("tone", ("dark",)),
        ("switch", (0, 1)),
        ("tool", ("saw", "axe")),
    ],
)
def test_choices_come_from_the_type(name, choices):
    assert SAMPLE[name].choices == choices


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("count", "3", 3),
        ("rate", "0.5", 0.5),
        ("rate", "auto", "auto"),
        ("switch", "1", 1),
        ("gpu", "2", 2),
        ("epochs", "3,4 5", (3, 4, 5)),
        ("tool", "axe", "axe"),
        ("name", "1", "1"),
    ],
)
def test_the_reader_comes_from_the_type(name, text, value):
    found = SAMPLE[name].read(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(("name", "text"), [("count", "1.5"), ("rate", "slow"), ("epochs", "1 x")])
def test_text_that_is_no_value_is_refused(name, text):
    with pytest.raises(ValueError, match=r"invalid literal|could not convert"):
        SAMPLE[name].read(text)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("count", 0, r"`count` \(=0\) is out of range; give at least 1"),
        ("count", "3", r"`count` \(=3\) must be a whole number"),
        ("count", 1.5, r"`count` \(=1.5\) must be a whole number"),
        ("rate", 0, r"`rate` \(=0\) is out of range; give a number above 0, or auto"),
        ("rate", float("nan"), "out of range"),
        ("rate", float("inf"), "out of range"),
        ("rate", "slow", r"`rate` \(=slow\) must be a number, or auto"),
        ("share", 1.5, "give from 0 to 1"),
        ("share", float("nan"), "give from 0 to 1"),
        ("color", "green", "is unknown; choose one of red, blue"),
        ("tone", "light", "is unknown; choose one of dark"),
        ("switch", 2, "is unknown; choose one of 0, 1"),
    ],
)
def test_a_value_that_does_not_fit_is_named(name, value, reason):
    with pytest.raises(InputError, match=reason):
        Sample(**{name: value})


def test_what_may_be_left_empty_may_be_empty():
    assert Sample(tone="", switch=None, gpu=None, rate="auto").gpu is None


def test_names_of_an_option():
    assert SAMPLE["rate"].flag == "--rate"
    assert SAMPLE["rate"].keys == ("rate", "speed")


def test_choices_of_a_run_are_those_of_the_registries():
    assert OPTIONS["mgd_reducer"].choices == tuple(REDUCERS)
    assert OPTIONS["mgd_solver"].choices == tuple(SOLVERS)
    assert OPTIONS["kd"].choices == tuple(LOGIT_LOSSES)
    assert OPTIONS["distiller"].words == ("none", "kd", *METHODS)  # or code of the user's
    assert OPTIONS["augment"].choices == get_args(Augment)


def test_no_flag_or_key_has_two_meanings():
    names = [flag for item in OPTIONS.values() for flag in (item.flag, *item.flags)]
    assert len(names) == len(set(names))
    assert all(get_type_hints(group)["listed_for"] for group in GROUPS)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"epochs": 3, "start_epoch": 3}, r"`start_epoch` \(=3\) leaves nothing to train"),
        ({"experiment": "../out"}, r"`experiment` \(=\.\./out\) must be the name of a folder"),
        ({"experiment": "/out"}, "inside `output`"),
        ({"rank": 2, "world_size": 2}, r"`rank` \(=2\) must be below `world_size` \(=2\)"),
        ({"parallel": "dp", "mgd_tracking": "online"}, "does not work with DataParallel"),
        ({"parallel": "dp", "multiprocessing_distributed": True}, "contradicts `parallel`"),
        ({"parallel": "fsdp"}, "shares out the teacher of mgd distill"),
        ({"parallel": "fsdp", "distiller": "mgd", "evaluate": True, "student_resume": "a"}, "only"),
        ({"parallel": "fsdp", "distiller": "mgd", "compile": True}, "`compile` does not work with"),
        ({"pretrained": True, "use_pretrained": 0}, "`pretrained` contradicts"),
        ({"evaluate": True}, "nothing to evaluate: give `student_resume=FILE`"),
        ({"dist_url": "localhost:1"}, "must look like tcp://HOST:PORT"),
        ({"dist_url": "tcp://localhost"}, "must look like tcp://HOST:PORT"),
        ({"dist_url": "tcp://localhost:x"}, "must look like tcp://HOST:PORT"),
    ],
)
def test_options_that_contradict_each_other_are_named(values, reason):
    with pytest.raises(InputError, match=reason):
        RunConfig().replace(**values)


@pytest.mark.parametrize(
    "values",
    [
        {"epochs": 3, "start_epoch": 3, "warmup": 1},
        {"experiment": "a/b"},
        {"rank": 1, "world_size": 2},
        {"parallel": "ddp", "mgd_tracking": "online"},
        {"parallel": "ddp", "multiprocessing_distributed": True},
        {"parallel": "fsdp", "distiller": "mgd"},
        {"evaluate": True, "student_resume": "x.pth"},
        {"evaluate": True, "pretrained": True},
        {"dist_url": "env://"},
    ],
)
def test_options_that_go_together_are_accepted(values):
    changed = RunConfig().replace(**values).flat()
    assert all(changed[name.replace("_", "-")] == value for name, value in values.items())


def test_an_option_of_a_teacher_needs_one():
    none = RunConfig().distillation
    with pytest.raises(InputError, match="`kd_weight` has no effect: with `distiller=none`"):
        check_teacher_is_used(none, ["arch", "kd_weight"])
    check_teacher_is_used(none, ["arch", "distiller", "epochs"])
    check_teacher_is_used(RunConfig().replace(distiller="kd").distillation, TEACHER_OPTIONS)
