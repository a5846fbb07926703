"""Sections of a model card that a classifier's and a detector's have alike."""

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mgd.engine.card.facts import RunFacts
from mgd.engine.card.markdown import block, code, front_matter, plain
from mgd.models import is_code
from mgd.runfolder import names
from mgd.tensors.logits import LOGIT_LOSSES
from mgd.tensors.reducers import REDUCERS

LIBRARY = "matching-guided-distillation"
_MOST_CLASSES = 30
_CITATION = """@inproceedings{yue2020matching,
  title     = {Matching Guided Distillation},
  author    = {Yue, Kaiyu and Deng, Jiangfan and Zhou, Feng},
  booktitle = {European Conference on Computer Vision (ECCV)},
  year      = {2020},
  url       = {https://arxiv.org/abs/2008.09958}
}"""
_METHODS = {
    "kd": "learned from the class scores of its teacher",
    "fitnet": "learned from the features of its teacher through 1x1 convolutions (FitNet, Romero "
    "et al., ICLR 2015)",
    "ofd": "learned from the features of its teacher through 1x1 convolutions and a partial "
    "distance (Heo et al., ICCV 2019)",
    "mgd": "learned from the features of its teacher by Matching Guided Distillation (Yue et al., "
    "ECCV 2020; reducer {reducer})",
    "mgd-adapter": "learned from the features of its teacher through 1x1 convolutions that started "
    "as the matching of Matching Guided Distillation (Yue et al., ECCV 2020)",
}
_MATCHING = ("mgd", "mgd-adapter")


def card_of(
    facts: RunFacts,
    *,
    about: Mapping[str, Any],
    what: str,
    figures: Iterable[str],
    use: Iterable[str],
    data: Iterable[str],
    limits: Iterable[str],
) -> str:
    """Returns a card of its sections, in Markdown with the front matter that Hugging Face reads.

    Args:
        facts: What it tells. Names in it come from the user's folders; they stay names.
        about: The front matter.
        what: The network, in a sentence.
        figures: What it came to, each a paragraph.
        use: How to load it, each a paragraph.
        data: The images, each a paragraph.
        limits: What it cannot do, each a point.
    """
    parts = [
        front_matter(about),
        f"# {code(facts.folder.name)}",
        what,
        "## Figures",
        *figures,
        "## Use",
        *use,
        "## Data",
        *data,
        "## Training",
        *_training(facts),
        "## Limits",
        "\n".join(f"- {limit}" for limit in (*limits, _licences(facts))),
        *_citation(facts),
    ]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def front(facts: RunFacts, task: str, metrics: Sequence[str]) -> dict[str, Any]:
    """Returns what Hugging Face reads of a run.

    Args:
        facts: Of the run.
        task: By the hub's name.
        metrics: By the hub's names.
    """
    tags = [task, "pytorch"]
    tags += ["knowledge-distillation"] if facts.teacher else []
    tags += ["matching-guided-distillation"] if facts.method in _MATCHING else []
    base = {"base_model": plain(facts.base_model)} if facts.base_model else {}
    return {
        "library_name": LIBRARY,
        "pipeline_tag": task,
        "tags": tags,
        "metrics": [*metrics],
        **base,
    }


def learned(facts: RunFacts) -> str:
    """Returns how the network was trained, as the end of a text that names it."""
    if not facts.teacher:
        return "was trained on its own, without a teacher."
    reducer = f"{facts.reducer}: {REDUCERS[facts.reducer].title}"
    own = f"learned from the features of its teacher by a loss of its authors, {code(facts.method)}"
    how = _METHODS[facts.method].format(reducer=reducer) if facts.method in _METHODS else own
    loss = LOGIT_LOSSES[facts.logit_loss].title if facts.logit_loss else ""
    if facts.method == "kd":
        how += f" ({facts.logit_loss}: {loss})"
    elif loss:
        how += f", and from its class scores ({facts.logit_loss}: {loss})"
    return f"{how}. The teacher is {code(facts.teacher)} ({code(facts.teacher_weights)})."


def number_of(facts: RunFacts) -> str:
    """Returns the number of classes, in words.

    Args:
        facts: Of the run.
    """
    return f"{len(facts.classes)} {'class' if len(facts.classes) == 1 else 'classes'}"


def weights_of(facts: RunFacts, figure: str) -> Iterator[str]:
    """Yields which epoch the weights are of, and why the training ended early.

    Args:
        facts: Of the run.
        figure: What chose the epoch.
    """
    result = facts.result
    chosen = "the last" if facts.keeps_last else "the best"
    if result.best_epoch >= 0:
        averaged = ", averaged over the steps" if facts.options.get("model-ema") else ""
        yield f"The weights are those of {chosen} epoch, number {result.best_epoch + 1}{averaged}."
    if result.stopped_after is not None:
        yield (
            f"The training ended early, after {result.stopped_after} epochs, since the {figure} on "
            f"the validation images became no better for {facts.options['patience']} epochs."
        )


def spread(commands: str) -> str:
    """Returns what a card says of the spread.

    Args:
        commands: Those that give it, of several runs.
    """
    return (
        "This is one run. What another seed changes is not in it: train again with other seeds "
        f"(`--seed 1 --experiment NAME-seed1`, ...), and {commands} of all the runs gives mean "
        "and spread."
    )


def classes_of(facts: RunFacts, order: str) -> str:
    """Returns the names of the classes.

    Args:
        facts: Of the run.
        order: What they are in the order of.
    """
    shown = [code(name) for name in facts.classes[:_MOST_CLASSES]]
    more = len(facts.classes) - len(shown)
    rest = f" and {more} more, which are in the file of the weights" if more else ""
    return f"{number_of(facts)}, in the order of {order}: {', '.join(shown)}{rest}."


def _training(facts: RunFacts) -> Iterator[str]:
    yield f"The first weights: {code(facts.start)}."
    yield "\n".join(f"- {name}: {code(_shown(value))}" for name, value in facts.options.items())
    for change in facts.changes:
        changed = ", ".join(
            f"{name} from {code(_shown(before))} to {code(_shown(after))}"
            for name, (before, after) in change.changed.items()
        )
        where = f"epoch {change.epoch + 1}, after {change.step} steps"
        yield f"The run was resumed with other options in {where}: {changed}."
    yield "To make it again, in the folder where it was made:"
    yield block("bash", again(facts))


def again(facts: RunFacts) -> str:
    """Returns the command that makes a run again; networks that are code have to be named in it."""
    words = ["mgd", facts.command, "-c", str(facts.folder / names.ARGS)]
    for flag, name in (("--arch", facts.arch), ("--teacher", facts.teacher)):
        words += [flag, name] if is_code(name) else []
    return shlex.join([*words, "--experiment", f"{facts.folder.name}-again"])


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _licences(facts: RunFacts) -> str:
    weights = "the teacher's weights, of " if facts.teacher else ""
    return (
        f"The licences of {weights}the first weights and of the images are not known here; check "
        "them before you pass the weights on."
    )


def _citation(facts: RunFacts) -> Iterator[str]:
    if facts.method in _MATCHING:
        yield "## Citation"
        yield block("bibtex", _CITATION)
