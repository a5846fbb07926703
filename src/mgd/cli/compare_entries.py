"""Compared networks: which ones the words of a command line mean, with what runs know of them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mgd.engine.options.config import RunConfig
from mgd.engine.tasks.trained import file_of, metadata_of
from mgd.errors import InputError
from mgd.models import is_code
from mgd.report.groups import Group, group_runs
from mgd.runfolder import (
    ComparedNetwork,
    Cost,
    Run,
    is_detection,
    is_evaluation,
    is_run,
    names,
    read_run,
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A network to compare, not loaded yet."""

    name: str
    arch: str = ""
    """Network, where no file is known or the file may not name it."""
    file: Path | None = None
    size: int = 0
    """Of the images that a teacher sees, where its run says; 0: its own."""
    classes: int = 0
    """How many classes a network by name is to have, where runs tell; 0: they do not."""
    is_given: bool = True
    """False for a teacher that a run names."""
    is_teacher: bool = False
    accuracies: tuple[float, ...] = ()
    images: str = ""
    is_agreement: bool = False

    def compared(self, cost: Cost | None, arch: str) -> ComparedNetwork:
        """Returns the network with its costs, or without where it could not be had."""
        return ComparedNetwork(
            name=self.name,
            arch=arch or self.arch,
            source=str(self.file or ""),
            is_teacher=self.is_teacher,
            cost=cost,
            accuracies=self.accuracies,
            images=self.images,
            is_agreement=self.is_agreement,
        )


def find_entries(given: Sequence[str]) -> list[Entry]:
    """Returns the networks that words mean, each once, with the teachers of runs before these.

    Args:
        given: Run folders, files or names. Runs that differ in their seed alone are one network. A
            page of a report, which `runs/*` names as well, is left out.

    Raises:
        InputError: For a folder without weights, or a file that does not exist.
    """
    words = [word for word in dict.fromkeys(given) if Path(word).name != names.REPORT]
    if not words:
        raise InputError(f"{', '.join(given)}: no network; give run folders, files or names")
    runs = {word: _run(Path(word)) for word in words if is_run(Path(word))}
    groups = {id(run): group for group in group_runs([*runs.values()]) for run in group.runs}
    entries: dict[str, Entry] = {}
    """By what the network is: its file, or its name."""
    taught: list[tuple[str, Group]] = []
    for word in words:
        if word not in runs:
            key, entry = _of_word(word)
            entries.setdefault(key, entry)
            continue
        group = groups[id(runs[word])]
        if runs[word] is group.runs[0]:
            key = str(file_of(group.runs[0].folder).resolve())
            entries[key] = _of_group(group)
            taught.append((key, group))
    for key, group in taught:
        _add_teacher(entries, key, group)
    return list(_numbered(entries.values()))


def _run(folder: Path) -> Run:
    if not (folder / names.STUDENT).is_file():
        raise InputError(
            f"'{folder}' has no weights yet, since none of its epochs has ended; wait for one, or "
            "leave this run out"
        )
    return read_run(folder)


def _of_word(word: str) -> tuple[str, Entry]:
    """Returns what a word that is no run folder means, by its identity."""
    path = Path(word)
    if is_evaluation(path) or is_detection(path):
        raise InputError(f"'{word}' holds what an evaluation found, and no network; leave it out")
    if path.is_dir():
        raise InputError(f"'{word}' is a folder, but no run folder; give a run, a file or a name")
    is_path = path.suffix in (".safetensors", ".pth", ".pt", ".ckpt", ".pt2", ".onnx", ".tar")
    if path.is_file():
        return str(path.resolve()), Entry(name=word, file=path)
    if is_path or (len(path.parts) > 1 and ":" not in word):
        raise InputError(f"'{word}' does not exist; give a run folder, a file or a network's name")
    return word, Entry(name=word, arch=word)


def _of_group(group: Group) -> Entry:
    run = group.runs[0]
    return Entry(
        name=group.name,
        file=file_of(run.folder),
        accuracies=tuple(group.accuracies),
        images=_images(group),
        is_agreement=group.is_agreement,
    )


def _images(group: Group) -> str:
    """Returns the images that the accuracies of a group are on, as far as its options tell."""
    ended = [run.result for run in group.runs if run.result is not None]
    if not ended:
        return ""
    part = "valid" if ended[0].test_top1 is None else "test"
    return f"{part} of {group.options['data']}"


def _add_teacher(entries: dict[str, Entry], student: str, group: Group) -> None:
    """Adds the teacher of a group before it, or its accuracy to the entry that is there already.

    Its accuracy is the one that the runs measured, on the same images as the student's.
    """
    if group.is_alone:
        return
    results = [run.result for run in group.runs if run.result is not None]
    found = tuple(each.teacher_top1 for each in results if each.teacher_top1 is not None)
    # One teacher of several runs is measured anew by each of them, on the same images.
    found = found[:1] if len(set(found)) == 1 else found
    key, entry = _teacher(group.runs[0])
    if key in entries:
        entry = entries[key]
    if found:
        entry = replace(entry, accuracies=found, images=_images(group))
    entry = replace(entry, is_teacher=True)
    if key in entries:
        entries[key] = entry
        return
    rest = list(entries.items())
    place = [each for each, _ in rest].index(student)
    entries.clear()
    added = replace(entry, is_given=False)
    entries.update([*rest[:place], (key, added), *rest[place:]])


def _teacher(run: Run) -> tuple[str, Entry]:
    """Returns the teacher that a run names, by its identity.

    Its file is where the options say, or in a folder of that name beside the run, since the
    folders may have been moved. Where it is not there, the network is built by name.
    """
    options = run.options
    resume = Path(options.get("teacher-resume") or "")
    beside = run.folder.parent / resume.parent.name / resume.name
    file = next((path for path in (resume, beside) if path.is_file()), None)
    config = RunConfig().replace(arch=options["arch"], teacher=options.get("teacher") or "")
    arch, size = config.teacher_name, _number(options.get("teacher-size"))
    if file is not None and not is_code(arch):
        name = (file.parent if is_run(file.parent) else file).name
        name = name if "teacher" in name else f"teacher {name}"
        if metadata_of(file) is None:  # such a teacher sees images of the student's size
            size = size or _number(options["size"])
        return str(file.resolve()), Entry(name=name, file=file, arch=arch, size=size)
    metadata = metadata_of(file_of(run.folder))
    number = len(metadata.classes) if metadata else 0
    name = f"teacher {arch}"
    return name, Entry(name=name, arch=arch, classes=number, size=size)


def _number(option: Any) -> int:
    """Returns an option that is a number or `auto`; 0 for the latter."""
    return option if isinstance(option, int) else 0


def _numbered(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yields the entries, with a number behind a name that an earlier one has."""
    taken: set[str] = set()
    for entry in entries:
        name, number = entry.name, 2
        while name in taken:
            name, number = f"{entry.name} ({number})", number + 1
        taken.add(name)
        yield replace(entry, name=name)
