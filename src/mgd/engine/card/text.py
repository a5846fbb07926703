"""The text of the model card of a classifier."""

import math
from collections.abc import Iterator

from mgd.engine.card.facts import Facts
from mgd.engine.card.loading import with_mgd, without_mgd
from mgd.engine.card.markdown import block, code
from mgd.engine.card.sections import (
    card_of,
    classes_of,
    front,
    learned,
    number_of,
    spread,
    weights_of,
)
from mgd.runfolder import names
from mgd.views import View


def card_text(facts: Facts) -> str:
    """Returns the card of a run.

    Args:
        facts: What it tells. Names in it come from the user's folders; they stay names.
    """
    return card_of(
        facts,
        about=front(facts, "image-classification", ["accuracy"]),
        what=_what(facts),
        figures=_figures(facts),
        use=_use(facts),
        data=_data(facts),
        limits=_limits(facts),
    )


def _what(facts: Facts) -> str:
    start = f"The network is {code(facts.arch)}, an image classifier of {number_of(facts)}."
    pruned = " Some of its channels were removed before the training." if facts.pruned else ""
    return f"{start}{pruned} It {learned(facts)}"


def _figures(facts: Facts) -> Iterator[str]:
    yield from weights_of(facts, "accuracy")
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
        "± is the binomial standard error: what chance does to an accuracy on so many images. "
        f"{spread('`mgd report` or `mgd compare`')}"
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
    yield classes_of(facts, "the outputs")


def _limits(facts: Facts) -> Iterator[str]:
    yield (
        f"It knows {number_of(facts)} and nothing else: it names one of them for any image, also "
        "for one that shows none of them."
    )
    yield (
        "It was measured on images of this data set alone. Not measured: images from elsewhere, "
        "such as of another camera; whether groups of people are treated alike; how far its "
        "probabilities can be trusted; resistance to attacks."
    )
