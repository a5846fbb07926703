"""Groups: runs that differ in their seed alone, and which group is compared with which."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from mgd.runfolder import Run

_SEED = re.compile(r"-seed(\d+)")
_ASIDE = (
    *("seed", "output", "experiment"),
    # Where a run was computed and what it told meanwhile: nothing of what was trained.
    *("gpu", "rank", "dist-url", "workers", "print-freq", "tensorboard", "checkpoint-every"),
)
_SAME_STUDENT = ("arch", "data", "size", "train-images")


@dataclass(frozen=True)
class Group:
    """Runs of one method."""

    name: str
    """Unique among the groups of a report."""
    runs: list[Run]

    @property
    def options(self) -> dict[str, Any]:
        """Options of the first run."""
        return self.runs[0].options

    @property
    def is_alone(self) -> bool:
        """Whether no teacher taught."""
        return bool(self.options["distiller"] == "none")

    @property
    def accuracies(self) -> list[float]:
        """Of the finished runs, percent."""
        return [run.accuracy for run in self.runs if run.accuracy is not None]

    @property
    def is_agreement(self) -> bool:
        """Whether the accuracies are agreement with the teacher, and no accuracies."""
        return any(run.is_agreement for run in self.runs)


def measure_of(groups: Sequence[Group]) -> str:
    """Returns what the accuracies of groups are: "accuracy", or "mAP" where boxes are found."""
    return "mAP" if any(run.finds_boxes for group in groups for run in group.runs) else "accuracy"


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Groups runs that differ in their seed alone, in the order of each group's first run.

    All options count but the seed, the names of the folders, and those that change nothing of what
    is trained. A path that holds the seed, as that of a teacher trained for each seed may, is the
    same for all seeds. Runs whose options name no seed are grouped by name. So are runs with equal
    options and equal seeds: they differ in something that no option tells, such as the code.

    Example:
        >>> from pathlib import Path
        >>> def run(name, seed):
        ...     options = {"distiller": "kd", "seed": seed}
        ...     return Run(
        ...         folder=Path(name), options=options, epochs=[], result=None, matching=None
        ...     )
        >>> [(group.name, len(group.runs)) for group in group_runs([run("red", 0), run("kd", 1)])]
        [('red, kd', 2)]
    """
    by_options: dict[Any, list[Run]] = {}
    for run in runs:
        by_options.setdefault(_setting(run), []).append(run)
    found: list[list[Run]] = []
    for members in by_options.values():
        seeds = [seed_of(run) for run in members]
        if None not in seeds and len(set(seeds)) < len(seeds):
            by_name: dict[str, list[Run]] = {}
            for run in members:
                by_name.setdefault(run.group, []).append(run)
            found.extend(by_name.values())
        else:
            found.append(members)
    order = {id(run): place for place, run in enumerate(runs)}
    found.sort(key=lambda members: order[id(members[0])])
    return [Group(name, members) for name, members in zip(_names(found), found, strict=True)]


def seed_of(run: Run) -> int | None:
    """Returns the seed in the options, or else in the name; None where neither tells."""
    if "seed" in run.options:
        return int(run.options["seed"])
    found = _SEED.search(run.name)
    return int(found[1]) if found else None


def _setting(run: Run) -> Any:
    if "seed" not in run.options:
        return run.group
    kept = {name: value for name, value in run.options.items() if name not in _ASIDE}
    own = re.compile(rf"-seed{run.options['seed']}\b")
    # As text, since a list cannot be a key.
    return tuple(sorted((name, own.sub("", str(value))) for name, value in kept.items()))


def _names(groups: Sequence[Sequence[Run]]) -> list[str]:
    """Returns names that tell the groups apart, as short as that allows."""
    makers: tuple[Callable[[Sequence[Run]], str], ...] = (
        _common_name,
        lambda runs: ", ".join(run.name for run in runs),
        lambda runs: ", ".join("/".join(run.folder.parts[-2:]) for run in runs),
    )
    names = [makers[0](runs) for runs in groups]
    for maker in makers[1:]:
        taken = Counter(names)
        names = [
            maker(runs) if taken[name] > 1 else name
            for name, runs in zip(names, groups, strict=True)
        ]
    taken = Counter(names)
    return [
        f"{name} ({place})" if taken[name] > 1 else name
        for place, name in enumerate(names, start=1)
    ]


def _common_name(runs: Sequence[Run]) -> str:
    names = list(dict.fromkeys(run.group for run in runs))
    rest = len(names) - 3
    return ", ".join(names) if rest <= 0 else f"{', '.join(names[:3])} and {rest} more"


def alone_of(group: Group, groups: Sequence[Group]) -> Group | None:
    """Returns the student alone to compare a distilled group with, if there is one.

    It has the same network, data, size and number of training images. Of several, the one with the
    most options in common is taken. The teacher itself is none, even if it is the same network.
    """
    if group.is_alone or group.is_agreement:
        return None
    fit = [
        other
        for other in groups
        if other.is_alone
        and other.accuracies
        and all(other.options[key] == group.options[key] for key in _SAME_STUDENT)
        and not any(is_teacher(run, group) for run in other.runs)
    ]
    return max(fit, key=lambda other: _shared(other, group), default=None)


def _shared(one: Group, other: Group) -> int:
    return sum(other.options.get(name) == value for name, value in one.options.items())


def is_teacher(run: Run, group: Group) -> bool:
    """Tells whether a run made the teacher of a group, by the path that the group's options name.

    The folders may have been moved together since, so the name of the folder counts alone.
    """
    paths = [PurePath(str(each.options.get("teacher-resume") or "")) for each in group.runs]
    is_named = any(run.name in path.parts[-2:] for path in paths)
    return is_named and run.options["arch"] == group.options.get("teacher", run.options["arch"])
