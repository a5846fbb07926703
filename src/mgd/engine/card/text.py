"""The text of a model card, in Markdown with the front matter that Hugging Face reads."""

import math
import shlex
from collections.abc import Iterator
from typing import Any

from mgd.engine.card.facts import Facts
from mgd.engine.card.loading import with_mgd, without_mgd
from mgd.engine.card.markdown import block, code, front_matter, plain
from mgd.models import is_code
from mgd.runfolder import names
from mgd.tensors.logits import LOGIT_LOSSES
from mgd.tensors.reducers import REDUCERS
from mgd.views import View

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


def card_text(facts: Facts) -> str:
    """Returns the card of a run.

    Args:
        facts: What it tells. Names in it come from the user's folders; they stay names.
    """
    parts = [
        front_matter(_about(facts)),
        f"# {code(facts.folder.name)}",
        _what(facts),
        "## Figures",
        *_figures(facts),
        "## Use",
        *_use(facts),
        "## Data",
        *_data(facts),
        "## Training",
        *_training(facts),
        "## Limits",
        "\n".join(f"- {limit}" for limit in _limits(facts)),
        *_citation(facts),
    ]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _about(facts: Facts) -> dict[str, Any]:
    tags = ["image-classification", "pytorch"]
    tags += ["knowledge-distillation"] if facts.teacher else []
    tags += ["matching-guided-distillation"] if facts.method in _MATCHING else []
    base = {"base_model": plain(facts.base_model)} if facts.base_model else {}
    return {
        "library_name": LIBRARY,
        "pipeline_tag": "image-classification",
        "tags": tags,
        "metrics": ["accuracy"],
        **base,
    }


def _what(facts: Facts) -> str:
    start = f"The network is {code(facts.arch)}, an image classifier of {_classes(facts)}. It"
    if facts.pruned:
        start = start.replace(". It", ". Some of its channels were removed before the training. It")
    if not facts.teacher:
        return f"{start} was trained on its own, without a teacher."
    reducer = f"{facts.reducer}: {REDUCERS[facts.reducer].title}"
    own = f"learned from the features of its teacher by a loss of its authors, {code(facts.method)}"
    how = _METHODS[facts.method].format(reducer=reducer) if facts.method in _METHODS else own
    loss = LOGIT_LOSSES[facts.logit_loss].title if facts.logit_loss else ""
    if facts.method == "kd":
        how += f" ({facts.logit_loss}: {loss})"
    elif loss:
        how += f", and from its class scores ({facts.logit_loss}: {loss})"
    return f"{start} {how}. The teacher is {code(facts.teacher)} ({code(facts.teacher_weights)})."


def _classes(facts: Facts) -> str:
    return f"{len(facts.classes)} {'class' if len(facts.classes) == 1 else 'classes'}"


def _figures(facts: Facts) -> Iterator[str]:
    result = facts.result
    chosen = "the last" if facts.keeps_last else "the best"
    if result.best_epoch >= 0:
        averaged = ", averaged over the steps" if facts.options.get("model-ema") else ""
        yield f"The weights are those of {chosen} epoch, number {result.best_epoch + 1}{averaged}."
    if result.stopped_after is not None:
        yield (
            f"The training ended early, after {result.stopped_after} epochs, since the accuracy on "
            f"the validation images became no better for {facts.options['patience']} epochs."
        )
    yield "\n".join(_table(facts))
    yield " ".join(_explained(facts))


def _table(facts: Facts) -> Iterator[str]:
    result = facts.result
    validation, test = ("validation", facts.valid_images), ("test", facts.test_images)
    rows: list[tuple[str, tuple[str, int], float | None, float | None]] = []
    if result.best_epoch >= 0:
        is_agreement = result.valid_is_agreement
        chosen_on = "held out, agreement with the teacher" if is_agreement else "validation"
        chosen = (chosen_on, facts.valid_images)
        rows.append(("student", chosen, result.valid_top1, result.valid_top5))
    rows.append(("student", test, result.test_top1, result.test_top5))
    part = validation if result.test_top1 is None else test
    rows.append(("teacher", part, result.teacher_top1, result.teacher_top5))
    # Of five classes or fewer, every answer is among the five most likely.
    has_top5 = len(facts.classes) > 5
    yield f"| network | images | how many | top-1 |{' top-5 |' if has_top5 else ''}"
    yield f"| --- | --- | --- | --- |{' --- |' if has_top5 else ''}"
    for network, (images, number), top1, top5 in rows:
        if top1 is not None and top5 is not None:
            error = standard_error(top1, number)
            more = f" {top5:.1f} % |" if has_top5 else ""
            yield f"| {network} | {images} | {number} | {top1:.1f} ± {error:.1f} % |{more}"


def standard_error(percent: float, images: int) -> float:
    """Returns the binomial standard error of an accuracy over so many images, in points.

    Example:
        >>> round(standard_error(90.0, 100), 6)
        3.0
    """
    share = min(max(percent / 100, 0.0), 1.0)
    return 100 * math.sqrt(share * (1 - share) / max(images, 1))


def _explained(facts: Facts) -> Iterator[str]:
    result = facts.result
    if result.valid_is_agreement:
        yield (
            "Agreement is how often the student answers as its teacher does; it is no accuracy, "
            "since these images have no label."
        )
    elif not facts.keeps_last:
        yield (
            "The validation images chose the epoch, so that the accuracy on them is a little too "
            "good."
        )
    if result.test_top1 is not None:
        yield "The test images chose nothing."
    if facts.teacher and result.teacher_top1 is None:
        yield "The accuracy of the teacher was not measured."
    yield (
        "± is the binomial standard error: what chance does to an accuracy on so many images. This "
        "is one run. What another seed changes is not in it: train again with other seeds "
        "(`--seed 1 --experiment NAME-seed1`, ...), and `mgd report` or `mgd compare` of all the "
        "runs gives mean and spread."
    )


def _use(facts: Facts) -> Iterator[str]:
    yield (
        "With the Python package `matching-guided-distillation` installed, in the folder of "
        f"`{names.STUDENT}`:"
    )
    yield block("python", with_mgd(facts.arch))
    # Its library builds a network with all channels, which these weights do not fit.
    library = "" if facts.pruned else without_mgd(facts.arch, len(facts.classes))
    if library:
        yield (
            "Or without this package. Then show the network its images as said below, and take the "
            "classes in the order said below:"
        )
        yield block("python", library)
    else:
        yield "This package builds the network, so that the file cannot be loaded without it."
    yield f"**Preprocessing**, which `about.view` does ({facts.view}): {seen(facts.view)}."


def seen(view: View) -> str:
    """Returns what is done with an image, for those who do it by themselves.

    Example:
        >>> seen(View(size=224, crop_pct=0.875)).partition(";")[0]
        'the shorter side of the image is resized to 256 px (bilinear)'
    """
    sides = {"center": "the shorter side", "squash": "each side", "border": "the longer side"}
    border = ", the rest filled with the mean colour" if view.crop == "border" else ""
    mean, std = (", ".join(f"{value:.4g}" for value in part) for part in (view.mean, view.std))
    return (
        f"{sides[view.crop]} of the image is resized to {view.resized} px ({view.interpolation})"
        f"{border}; the centre of {view.size} x {view.size} px is cut out; the {view.colour} "
        f"values, from 0 to 1, less {mean}, are divided by {std}"
    )


def _data(facts: Facts) -> Iterator[str]:
    counts = [f"{facts.train_images} images with labels"] if facts.train_images else []
    if facts.unlabelled_images:
        counts.append(f"{facts.unlabelled_images} without labels")
    parts = [f"trained on {' and '.join(counts)}", f"{facts.valid_images} images to validate"]
    if facts.test_images:
        parts.append(f"{facts.test_images} to test")
    yield f"The data are {code(facts.data)}: {', '.join(parts)}."
    shown = [code(name) for name in facts.classes[:_MOST_CLASSES]]
    more = len(facts.classes) - len(shown)
    rest = f" and {more} more, which are in the file of the weights" if more else ""
    yield f"{_classes(facts)}, in the order of the outputs: {', '.join(shown)}{rest}."


def _training(facts: Facts) -> Iterator[str]:
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


def again(facts: Facts) -> str:
    """Returns the command that makes a run again; networks that are code have to be named in it."""
    command = "distill" if facts.teacher else "train"
    words = ["mgd", command, "-c", str(facts.folder / names.ARGS)]
    for flag, name in (("--arch", facts.arch), ("--teacher", facts.teacher)):
        words += [flag, name] if is_code(name) else []
    return shlex.join([*words, "--experiment", f"{facts.folder.name}-again"])


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _limits(facts: Facts) -> Iterator[str]:
    yield (
        f"It knows {_classes(facts)} and nothing else: it names one of them for any image, also "
        "for one that shows none of them."
    )
    yield (
        "It was measured on images of this data set alone. Not measured: images from elsewhere, "
        "such as of another camera; whether groups of people are treated alike; how far its "
        "probabilities can be trusted; resistance to attacks."
    )
    weights = "the teacher's weights, of " if facts.teacher else ""
    yield (
        f"The licences of {weights}the first weights and of the images are not known here; check "
        "them before you pass the weights on."
    )


def _citation(facts: Facts) -> Iterator[str]:
    if facts.method in _MATCHING:
        yield "## Citation"
        yield block("bibtex", _CITATION)
