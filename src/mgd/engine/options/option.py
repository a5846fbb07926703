"""Options: a field of a configuration group, and the command-line flag made from it."""

import dataclasses
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from mgd.errors import InputError

Command = Literal["train", "distill", "evaluate", "train-detector", "distill-detector"]
"""The commands of the command line that make a run."""
COMMANDS: tuple[Command, ...] = ("train", "distill", "evaluate")
"""Those that take these options, unless it is said otherwise."""
DETECTOR_COMMANDS: tuple[Command, ...] = ("train-detector", "distill-detector")
"""Those that take what `options.detectors` lists."""
TRAINING: tuple[Command, ...] = ("train", "distill")
WITH_TEACHER: tuple[Command, ...] = ("distill", "evaluate")

Switch = Literal[0, 1]
"""On the command line these take 0 or 1, as in the original program."""


@dataclass(frozen=True)
class OneOf:
    """Choices that a registry names: `Annotated[str, OneOf(REDUCERS)]`.

    Args:
        registries: Each with names.
        or_code: Whether `package.module:name`, code of the user's, is a choice as well.
    """

    names: tuple[str, ...]
    or_code: bool

    def __init__(self, *registries: Mapping[str, Any] | tuple[str, ...], or_code: bool = False):
        names = tuple(name for registry in registries for name in registry)
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "or_code", or_code)


def option(
    default: Any,
    text: str,
    *,
    flags: tuple[str, ...] = (),
    former: tuple[str, ...] = (),
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    brief: str = "",
    commands: tuple[Command, ...] | None = None,
    shown: str = "",
    train_text: str = "",
) -> Any:
    """Declares a field that is also a command-line flag.

    The flag's name, the choices, the reader and whether the option may be left empty come from
    the field's name and annotation.

    Args:
        default: Value where nothing is given.
        text: What it does, with units and the meaning of special values.
        flags: Other names of the flag. Those with two dashes are also accepted in YAML files.
        former: Names of earlier versions, with two dashes: accepted as `flags` are, with a warning.
        least, above, most: Range of a number; `least` and `most` are included, `above` is not.
        brief: Text of one line for `--help`, which lists the common options: those that have one.
            `--help-all` lists every option with its whole text.
        commands: For which commands it is listed; by default those of its group.
        shown: What the help shows in place of the value; by default N or X for a number.
        train_text: The text for `mgd train`, where it differs because there is no teacher.
    """
    return field(
        default=default,
        metadata={
            "text": text,
            "flags": flags,
            "former": former,
            "least": least,
            "above": above,
            "most": most,
            "brief": brief,
            "commands": commands,
            "shown": shown,
            "train_text": train_text,
        },
    )


@dataclass(frozen=True, kw_only=True)
class Option:
    """What is known of one option, declared by `option` or derived from the field's annotation."""

    name: str
    default: Any
    text: str
    train_text: str
    flags: tuple[str, ...]
    former: tuple[str, ...]
    least: float | None
    above: float | None
    most: float | None
    brief: str
    commands: tuple[Command, ...]
    shown: str
    kind: type | None
    """Type of the value; `None` where only `words` are allowed."""
    part: type
    """Type of each of several values, where `kind` is tuple."""
    words: tuple[Any, ...]
    """Literal values: the choices, or words such as "auto" beside a number."""
    or_code: bool
    """Whether beside `words` only `package.module:name` is a value, code of the user's."""

    @property
    def flag(self) -> str:
        """The flag's full name."""
        return "--" + self.name.replace("_", "-")

    @property
    def keys(self) -> tuple[str, ...]:
        """Names in a YAML file."""
        every = (self.flag, *self.flags, *self.former)
        return tuple(flag[2:] for flag in every if flag.startswith("--"))

    @property
    def choices(self) -> tuple[Any, ...]:
        """The values allowed, where there are only some."""
        return () if self.kind else self.words

    @property
    def needed(self) -> str:
        """What text can be read as a value, for an error."""
        if self.kind is tuple:
            whole = "whole " if self.part is int else ""
            return f"{whole}numbers with commas or spaces between"
        number = {int: "a whole number", float: "a number"}.get(self.kind or str, "text")
        return ", or ".join([number, *map(str, self.words)])

    def read(self, text: str) -> Any:
        """Reads a value from text.

        Raises:
            ValueError: If it cannot be read. The range is not checked here.
        """
        if self.kind is tuple:  # a path may have spaces and commas
            parts = [text] if self.part is str else text.replace(",", " ").split()
            return tuple(self.part(part) for part in parts)
        if self.kind is None:
            return type(self.words[0])(text)
        return text if text in self.words else self.kind(text)

    def check(self, value: Any) -> None:
        """Checks a value.

        Raises:
            InputError: If it is none of the choices or outside the range.
        """
        if value == self.default or value in self.words:
            return
        given = f"`{self.name}` (={value})"
        is_code = self.or_code and ":" in str(value)
        if (self.kind is None or self.or_code) and not is_code:
            more = ", or give package.module:name of your own code" if self.or_code else ""
            known = ", ".join(map(str, self.words))
            raise InputError(f"{given} is unknown; choose one of {known}{more}")
        if self.kind in (int, float):
            if not isinstance(value, Integral if self.kind is int else Real):
                raise InputError(f"{given} must be {self.needed}")
            if not self._is_in_range(value):
                raise InputError(f"{given} is out of range; give {self._range()}")

    def _is_in_range(self, value: Any) -> bool:
        # Written so that NaN is out of every range, and infinity out of those without an end.
        if self.most is not None:
            return bool((self.least or 0) <= value <= self.most)
        if self.above is not None:
            return bool(self.above < value < math.inf)
        return self.least is None or bool(self.least <= value < math.inf)

    def _range(self) -> str:
        words = "".join(f", or {word}" for word in self.words)
        if self.most is not None:
            return f"from {self.least} to {self.most}{words}"
        if self.above is not None:
            return f"a number above {self.above}{words}"
        return f"at least {self.least}{words}"


class Group:
    """A group of options; checks each value by itself when it is made."""

    listed_for: ClassVar[tuple[Command, ...]] = COMMANDS
    """Commands whose help lists the group's options, where an option does not say otherwise."""

    def __post_init__(self) -> None:
        for item in options_of(type(self)):
            item.check(getattr(self, item.name))


def options_of(group: type[Group]) -> tuple[Option, ...]:
    """Returns the options of a group, in their order."""
    hints = get_type_hints(group, include_extras=True)
    options = []
    for item in dataclasses.fields(group):  # type: ignore[arg-type]  # every group is a dataclass
        declared = dict(item.metadata)
        kind, words, or_code = _kind_and_words(hints[item.name])
        part = get_args(hints[item.name])[0] if kind is tuple else str
        declared["commands"] = declared["commands"] or group.listed_for
        value = "CODE" if or_code else {int: "N", float: "X"}.get(kind or str, "NAME")
        declared["shown"] = declared["shown"] or "|".join([*map(str, words), value])
        options.append(
            Option(
                name=item.name,
                default=item.default,
                kind=kind,
                part=part,
                words=words,
                or_code=or_code,
                **declared,
            )
        )
    return tuple(options)


def _kind_and_words(hint: Any) -> tuple[type | None, tuple[Any, ...], bool]:
    """Splits an annotation into a type to read, the literal values beside it, and "or code".

    `None` and the empty string stand for "not given", which no command line has to write.
    """
    if get_origin(hint) is Annotated:
        (mark,) = (mark for mark in hint.__metadata__ if isinstance(mark, OneOf))
        return (str if mark.or_code else None), mark.names, mark.or_code
    is_union = get_origin(hint) in (Union, types.UnionType)
    members = get_args(hint) if is_union else (hint,)
    literals = [member for member in members if get_origin(member) is Literal]
    kinds: list[Callable[..., Any]] = [
        get_origin(member) or member
        for member in members
        if member not in literals and member is not types.NoneType
    ]
    words = tuple(word for literal in literals for word in get_args(literal) if word != "")
    kind = kinds[0] if kinds else None
    return kind, words, False  # type: ignore[return-value]  # classes, all
