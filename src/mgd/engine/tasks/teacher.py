"""The teacher of a run: its network, its weights, and whether its outputs are the run's classes."""

import logging
from dataclasses import replace

import torch
from torch import nn

from mgd.data.transforms import Augment
from mgd.engine.options.config import RunConfig
from mgd.engine.tasks.classes import columns_of
from mgd.engine.tasks.classifier import (
    AS_PUBLISHED,
    Classifier,
    as_trained,
    check_trainable,
    own_view,
    telling_of,
    with_given,
)
from mgd.engine.tasks.trained import load_trained, read_trained
from mgd.errors import InputError
from mgd.inside import evaluating, logits_of
from mgd.models import (
    PRETRAINED,
    Metadata,
    build_for,
    create_for,
    create_model,
    head,
    is_code,
    is_exported,
    published_classes,
)
from mgd.models.weights import StateDict, load_weights
from mgd.views import View

logger = logging.getLogger(__name__)

_PUBLISHED = "published weights"
_OWN = "weights of its own code"


def build_teacher(
    config: RunConfig,
    classes: tuple[str, ...],
    student: View,
    augment: Augment,
    device: torch.device,
) -> Classifier:
    """Creates the teacher with its weights, not yet on the device.

    Args:
        config: The run, with the names of its networks.
        classes: The run's, in the order of the student's outputs.
        student: The student's view.
        augment: The random changes of the training images.
        device: Where the run is.

    Raises:
        InputError: For a network or weights that cannot be had.
    """
    name, path = config.teacher_name, config.networks.teacher_resume
    metadata: Metadata | None = None
    columns, no_answers = None, ""
    if path and is_exported(path):
        if not config.output.evaluate:
            check_trainable(path)
        network, metadata = load_trained(path)
        weights = path
    elif path:
        state, metadata = read_trained(path)
        network, no_answers = _of_file(name, state, path, metadata, len(classes))
        weights = path
    else:
        network, weights, no_answers = _of_name(config, name, len(classes))
    if metadata is not None and metadata.classes:
        columns, others = columns_of(metadata.classes, classes, device)
        no_answers = no_answers or others
    view, view_from = own_view(name, network, metadata)
    # Own code may load published weights, and then says how they see an image.
    is_known = weights == _PUBLISHED or (weights == _OWN and view_from == AS_PUBLISHED)
    if metadata is None and not is_known:
        # Nothing says how these weights were trained.
        view = as_trained(view, augment)
        if config.views.size != "auto":
            view = view.replace(size=student.size, crop=student.crop, crop_pct=student.crop_pct)
            view_from = "size and crop as the student's"
    view, view_from = with_given(view, view_from, config.views.given("teacher"), "teacher")
    return Classifier(name, network, view, weights, view_from, columns, no_answers)


def _of_name(config: RunConfig, name: str, num_classes: int) -> tuple[nn.Module, str, str]:
    """Returns a network without a file, where its weights come from, and why it cannot answer."""
    if is_code(name):  # whether it loads any is not known
        return create_model(name, num_classes), _OWN, ""
    if config.networks.use_pretrained == 0:
        logger.warning("the teacher has random weights; give --teacher-resume FILE to teach")
        return create_model(name, num_classes), "random weights", ""
    network = create_model(name, num_classes, PRETRAINED)
    published = published_classes(name)
    if not published:
        return network, _PUBLISHED, "its weights were published without a last layer for classes"
    if published != num_classes:
        return (
            network,
            _PUBLISHED,
            f"its weights were published for {published} classes, the data has {num_classes}, "
            "so that its last layer is made anew and random",
        )
    return network, _PUBLISHED, ""


def _of_file(
    name: str, state: StateDict, path: str, metadata: Metadata | None, num_classes: int
) -> tuple[nn.Module, str]:
    """Returns a network with the weights of a file, and why it cannot answer.

    A file without the last layer gives the features alone. All other weights have to fit.
    """
    network = create_for(name, state, path, metadata, num_classes)
    own = network.state_dict()
    missing = {key for key in own if key not in state}
    if not missing or missing != set(head(name, num_classes)):
        return build_for(name, state, path, metadata, num_classes), ""
    load_weights(network, {**state, **{key: own[key] for key in missing}}, path)
    return network, f"its file has no last layer ({', '.join(sorted(missing))})"


@torch.no_grad()
def without_answers(teacher: Classifier, num_classes: int, device: torch.device) -> Classifier:
    """Runs a network of a kind that may have no classes, and says so if it gives no scores.

    Such networks are the user's own code, and those of transformers.

    Args:
        teacher: On the device.
        num_classes: K, of the run.
        device: Where it is.

    Returns:
        The same teacher, or one with `no_answers`.

    Raises:
        InputError: If it cannot run on images of its view.
    """
    if teacher.no_answers or not (is_code(teacher.name) or teacher.name.startswith("hf:")):
        return teacher
    side = teacher.view.size
    images = torch.zeros(2, teacher.view.num_channels, side, side, device=device)
    with telling_of(teacher, "teacher_size"), evaluating(teacher.network):
        output = teacher.network(images)
    try:
        scores = logits_of(output)
    except InputError:
        return replace(teacher, no_answers=f"it returns a {type(output).__name__} without scores")
    known = scores.shape[1:] if teacher.columns is None else None
    if known is None or known == (num_classes,):
        return teacher
    return replace(
        teacher,
        no_answers=f"its outputs are {tuple(known)}, and no scores of the {num_classes} classes",
    )
