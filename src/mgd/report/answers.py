"""Answers: which classes a student takes for which, and the images it is wrong about."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from mgd.report.groups import Group
from mgd.report.html import details, table, text
from mgd.runfolder import (
    AGREEMENTS,
    VERDICTS,
    ImageAnswer,
    Run,
    confident_mistakes,
    disagreements,
    read_answers,
    read_thumbnails,
)

_MOST_PAIRS = 10
_MOST_OPEN = 3
"""Up to so many methods are shown at once; of more, all but the first are folded."""
_MOST_GRIDS = 12
"""Methods whose pictures are on the page: it would be too large with those of any number."""


@dataclass(frozen=True)
class Tally:
    """The answers of one run, counted."""

    images: int
    of_class: Counter[str]
    """Images of each class; none where no class is known."""
    student: Counter[tuple[str, str]]
    """Images of each pair (class, another class that the student takes it for)."""
    teacher: Counter[tuple[str, str]]
    """The same of the teacher."""
    verdicts: Counter[str]
    """Images of each of `VERDICTS` or of `AGREEMENTS`; none without a teacher that answers."""


@dataclass(frozen=True)
class Answered:
    """The answers of a group of runs: counts of every run, images of one of them."""

    name: str
    tallies: list[Tally]
    shown: Run
    """The first run that has answers."""
    mistakes: list[ImageAnswer]
    """Of the run that is shown: the images that its student is most sure of and wrong."""
    disagreements: list[ImageAnswer]
    """Of the same run: images that student and teacher answer otherwise."""
    pictures: dict[str, str]
    """Addresses of small pictures, by the names of the images."""

    def mean(self, counts: Iterable[int]) -> str:
        """Returns the mean of a count over the runs, as text."""
        mean = sum(counts) / len(self.tallies)
        return f"{mean:.0f}" if mean.is_integer() else f"{mean:.1f}"


def tally(answers: Iterable[ImageAnswer]) -> Tally:
    """Counts the answers of a run."""
    of_class, verdicts = Counter[str](), Counter[str]()
    student, teacher = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    images = 0
    for each in answers:
        images += 1
        if each.verdict is not None:
            verdicts[each.verdict] += 1
        if each.label is None:
            continue
        of_class[each.label] += 1
        if each.is_mistake:
            student[each.label, each.student] += 1
        if each.teacher is not None and each.teacher != each.label:
            teacher[each.label, each.teacher] += 1
    return Tally(images, of_class, student, teacher, verdicts)


def answered(groups: Sequence[Group]) -> list[Answered]:
    """Reads the answers of groups of runs; one without any is left out.

    Raises:
        InputError: If a file cannot be read.
    """
    found = (_answered(group) for group in groups)
    return [each for each in found if each is not None]


def _answered(group: Group) -> Answered | None:
    tallies, shown = list[Tally](), None
    mistakes, others = list[ImageAnswer](), list[ImageAnswer]()
    for run in group.runs:
        answers = read_answers(run.folder)
        if not answers:
            continue
        tallies.append(tally(answers))
        if shown is None:
            shown = run
            mistakes, others = confident_mistakes(answers), disagreements(answers)
    if shown is None:
        return None
    pictures = read_thumbnails(shown.folder)
    return Answered(group.name, tallies, shown, mistakes, others, pictures)


def worst_confusions(found: Sequence[Answered]) -> list[str]:
    """Returns, for each method, the pairs of classes that its student confuses most."""
    confused = [each for each in found if any(one.student for one in each.tallies)]
    if not confused:
        return []
    notes = [f"The {_MOST_PAIRS} most frequent mistakes of each student, in images."]
    if any(len(each.tallies) > 1 for each in confused):
        notes.append("Counts are means over the runs of a method.")
    if any(one.teacher for each in confused for one in each.tallies):
        notes.append("Beside them: how often the teacher makes the same mistake.")
    return [_note(notes), *_folded(confused, [_confusions(each) for each in confused])]


def _confusions(found: Answered) -> str:
    totals = sum((each.student for each in found.tallies), Counter[tuple[str, str]]())
    of_class = sum((each.of_class for each in found.tallies), Counter[str]())
    has_teacher = any(each.verdicts for each in found.tallies)
    rows = []
    # Of pairs that are equally frequent the order is that of their names, on every machine.
    for (label, answer), total in sorted(totals.items(), key=lambda item: (-item[1], item[0])):
        pair = label, answer
        row = [
            *(label, answer, found.mean(each.student[pair] for each in found.tallies)),
            f"{100 * total / of_class[label]:.1f} %",
        ]
        if has_teacher:
            row.append(found.mean(each.teacher[pair] for each in found.tallies))
        rows.append(row)
    headings = ["true class", "taken for", "student", "of the class"]
    headings += ["teacher"] if has_teacher else []
    label = f"Classes that {found.name} confuses most"
    return table(headings, rows[:_MOST_PAIRS], label, "classes")


def worst_images(found: Sequence[Answered]) -> list[str]:
    """Returns, for each method, the images that its student is most sure of and wrong."""
    wrong = [each for each in found if each.mistakes][:_MOST_GRIDS]
    if not wrong:
        return []
    notes = ["The images that the student is most sure of, and wrong."]
    parts = [_images(each, each.mistakes) for each in wrong]
    return [_note([*notes, _ONE_RUN]), *_folded(wrong, parts)]


_ONE_RUN = "The percentages are the softmax of each network's answer. Shown is one run of a method."


def where_they_disagree(found: Sequence[Answered]) -> list[str]:
    """Returns how often student and teacher disagree, and some of the images."""
    asked = [each for each in found if any(one.verdicts for one in each.tallies)]
    if not asked:
        return []
    several = any(len(each.tallies) > 1 for each in asked)
    parts = [_note(["Images by who is right."] + ["Means over the runs."] * several)]
    for kinds in (VERDICTS, AGREEMENTS):
        rows = [_verdicts(each, kinds) for each in asked if _count(each, kinds)]
        if rows:
            head = ("method", "images", *kinds)
            parts.append(table(head, rows, "Images by who is right", "wide"))
    pictured = [each for each in asked if each.disagreements][:_MOST_GRIDS]
    if pictured:
        grids = [_images(each, each.disagreements) for each in pictured]
        notes = ["Images that one of the two has right, the student's surest answers first."]
        parts += [_note([*notes, _ONE_RUN]), *_folded(pictured, grids)]
    return parts


def _count(found: Answered, kinds: Sequence[str]) -> int:
    return sum(each.verdicts[kind] for each in found.tallies for kind in kinds)


def _verdicts(found: Answered, kinds: Sequence[str]) -> list[str]:
    images = _count(found, kinds)
    cells = [
        f"{found.mean(each.verdicts[kind] for each in found.tallies)} "
        f"({100 * sum(each.verdicts[kind] for each in found.tallies) / images:.1f} %)"
        for kind in kinds
    ]
    return [found.name, found.mean(each.images for each in found.tallies), *cells]


def _folded(found: Sequence[Answered], parts: Sequence[str]) -> list[str]:
    """Returns the parts of the methods under their names, folded where they are many."""
    few = len(found) <= _MOST_OPEN
    return [
        details(f"<h3>{text(each.name)}</h3>", part, is_open=few or place == 0)
        for place, (each, part) in enumerate(zip(found, parts, strict=True))
    ]


def _images(found: Answered, answers: Sequence[ImageAnswer]) -> str:
    items = "".join(f"<li>{_image(each, found.pictures.get(each.image))}</li>" for each in answers)
    run = f"Run {found.shown.name}." if found.shown.name != found.name else ""
    return f'{_note([run]) if run else ""}<ul class="shots">{items}</ul>'


def _image(answer: ImageAnswer, picture: str | None) -> str:
    """Returns an image with the answers to it, as a figure."""
    said = [("student", _said(answer.student, answer.student_probability))]
    if answer.teacher is not None:
        said.append(("teacher", _said(answer.teacher, answer.teacher_probability)))
    if answer.label is not None:
        said.insert(0, ("true", answer.label))
    told = ", ".join(f"{who}: {what}" for who, what in said)
    rows = "".join(f"<div><dt>{who}</dt><dd>{text(what)}</dd></div>" for who, what in said)
    name, label = text(PurePosixPath(answer.image).name), text(f"{answer.image}; {told}")
    shown = f'<img class="shot" src="{text(picture)}" alt="{label}">' if picture else ""
    return (
        f"<figure>{shown}<figcaption><dl>{rows}</dl>"
        f'<span title="{text(answer.image)}">{name}</span></figcaption></figure>'
    )


def _said(name: str, probability: float | None) -> str:
    return name if probability is None else f"{name} ({100 * probability:.0f} %)"


def _note(sentences: Sequence[str]) -> str:
    return f'<p class="note">{text(" ".join(sentences))}</p>'
