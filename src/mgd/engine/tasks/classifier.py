"""Classifier: a network of a run, with its classes and its view of the images."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from mgd.data.transforms import Augment, random_changes
from mgd.errors import InputError
from mgd.inside import logits_of
from mgd.models import Metadata, is_code, is_exported, tells_view
from mgd.models.exported import ExportedNetwork
from mgd.views import View

AS_PUBLISHED = "as published"
"""Where a view comes from that the library of a network tells."""


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network of a run, and what the run knows of it."""

    name: str
    """As in `mgd.create_model`; of an exported network the file."""
    network: nn.Module
    view: View
    weights: str
    """Where its weights come from, for a message."""
    view_from: str
    """Where its view comes from, for a message."""
    columns: Tensor | None = None
    """Which of its outputs are the run's classes, in the run's order; `None`: all, as they are."""
    no_answers: str = ""
    """Why its outputs are not the run's classes, so that only its features can teach."""

    pruned: bool = False
    """Whether channels were removed, so that its library builds it wider."""

    num_parameters: int | None = field(init=False)
    """Of the network as it was given: a frozen teacher's convolutions get biases later on, from the
    BatchNorms that are folded into them. `None` where an exported file does not tell them."""

    def __post_init__(self) -> None:
        # The one way to set a field of a frozen dataclass.
        object.__setattr__(self, "num_parameters", _num_parameters(self.network))

    def logits(self, images: Tensor) -> Tensor:
        """Runs the network on images as it takes them; returns (B, K) of the run's classes."""
        return self.answers(self.network(images))

    def answers(self, output: Any) -> Tensor:
        """Returns the scores of the run's classes (B, K) in what the network returned."""
        scores = logits_of(output)
        # DataParallel asks for them on several devices.
        return scores if self.columns is None else scores[:, self.columns.to(scores.device)]


def _num_parameters(network: nn.Module) -> int | None:
    if isinstance(network, ExportedNetwork):
        return network.num_parameters
    parameters = list(network.parameters())
    if any(map(is_lazy, parameters)):  # they have no shape before the first images
        return None
    return sum(parameter.numel() for parameter in parameters)


def own_view(name: str, network: nn.Module, metadata: Metadata | None = None) -> tuple[View, str]:
    """Returns a network's own view, and where it comes from.

    Args:
        name: As in `create_model`; of an exported network the file.
        network: The network of that name.
        metadata: What the file of its weights says.
    """
    if metadata is not None:
        return metadata.view, "kept with its weights"
    library, _, rest = name.partition(":")
    if library == "hf" and not tells_view(rest):
        size = getattr(getattr(network, "config", None), "image_size", None)
        view = View(size=size) if isinstance(size, int) else View()
        return view, "ImageNet's, since its folder has no preprocessor_config.json"
    if not is_code(name) and not is_exported(name):
        return View.from_network(name), AS_PUBLISHED
    # Networks of timm, made by the user's own function, have it.
    if isinstance(getattr(network, "pretrained_cfg", None), Mapping):
        return View.from_network(network), AS_PUBLISHED
    return View(), "ImageNet's, since nothing else is known"


def as_trained(view: View, augment: Augment) -> View:
    """Returns a view of whole images, where the random changes of the training show them whole.

    Args:
        view: Of a network that is trained here, or of which nothing says how it was.
        augment: The random changes; see `ViewConfig.crop`.
    """
    if random_changes(augment, view.size) == "imagenet":
        return view
    return view.replace(crop="squash", crop_pct=1.0)


def with_given(view: View, view_from: str, given: dict[str, Any], whose: str) -> tuple[View, str]:
    """Returns a view with the values that options give, and where it comes from.

    Args:
        view: The network's own.
        view_from: Where that comes from.
        given: Values of a view by name.
        whose: "student" or "teacher", for an error.

    Raises:
        InputError: If a value is out of range.
    """
    if not given:
        return view, view_from
    try:
        return view.replace(**given), f"{view_from}, but for {', '.join(given)}"
    except InputError as error:
        raise InputError(f"the {whose}'s view: {error}") from error


def check_trainable(path: str) -> None:
    """Checks that a file is of weights, and no exported network.

    Raises:
        InputError: If it is exported.
    """
    if is_exported(path):
        raise InputError(
            f"'{path}' is an exported network: it can be run, but neither trained nor looked "
            "inside; give the run folder or the file of weights that it was exported from"
        )


@contextmanager
def telling_of(classifier: Classifier, option: str) -> Iterator[None]:
    """Turns what torch and timm raise for images of a size or channels that do not fit.

    Args:
        classifier: The network that is run.
        option: Name of the option with its size.

    Raises:
        InputError: In place of what is raised, in one line.
    """
    try:
        yield
    except InputError as error:
        raise InputError(f"{classifier.name}: {error}") from error
    except (RuntimeError, AssertionError, ValueError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        size = classifier.view.size
        raise InputError(
            f"{classifier.name} cannot run on images of {size} x {size} px ({reason}); give it "
            f"another `{option}`"
        ) from error
