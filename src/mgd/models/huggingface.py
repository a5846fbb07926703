"""Networks of Hugging Face's transformers, by the name on the hub or the folder that holds them.

Only transformers' own code runs: code that comes with weights is refused.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from mgd.errors import InputError, import_extra

logger = logging.getLogger(__name__)

_CLASSIFIER = "ForImageClassification"
"""How transformers names a network that answers with classes."""


def create_hf(name: str, num_classes: int, pretrained: bool) -> nn.Module:
    """Builds a network of images: a classifier where there is one, else the features alone.

    SigLIP and CLIP have a tower for images and one for texts. Of these the tower for images is
    built; so it is of an architecture without a classifier, such as DINOv3.

    Args:
        name: On the hub, or a folder with `config.json`.
        num_classes: Of a classifier.
        pretrained: Whether to load the weights; else they are random.

    Returns:
        A network that takes images (B, 3, H, W), in float32. Of a classifier, the output has
        `logits` (B, K); of the others, it has features and no scores.

    Raises:
        InputError: If transformers is missing, or the network or its weights cannot be loaded.
    """
    config = _config(name)
    kind, config = _kind(name, config)
    if kind.__name__.endswith(_CLASSIFIER):
        config.num_labels = num_classes
    network: nn.Module
    with _quiet():
        network = _load(name, kind, config) if pretrained else _make(name, kind, config)
    if getattr(network, "main_input_name", "") != "pixel_values":
        raise InputError(
            f"'hf:{name}' is a {kind.__name__}, which does not take images alone; give a network "
            "of images"
        )
    return network.float()  # weights may be kept in half precision


def hf_classes(name: str) -> int | None:
    """Returns the number of classes of the published weights; `None` if they have no classes.

    Raises:
        InputError: If transformers is missing, or there is no such network.
    """
    config = _config(name)
    return int(config.num_labels) if _answers(config) else None


def tells_view(name: str) -> bool:
    """Tells whether a network comes with a processor, which says how it sees an image.

    A folder that `save_pretrained` of the network alone wrote has none.

    Args:
        name: As in `create_hf`; a name on the hub is taken to have one.
    """
    folder = Path(name)
    files = ("preprocessor_config.json", "processor_config.json")
    return not folder.is_dir() or any((folder / file).is_file() for file in files)


def _answers(config: Any) -> bool:
    """Tells whether the weights have a last layer: the configuration names the class saved."""
    return any(saved.endswith(_CLASSIFIER) for saved in config.architectures or ())


def _config(name: str) -> Any:
    transformers = import_extra("transformers", "hf", f"'hf:{name}'")
    is_path = name.startswith((".", "/", "~")) or name.count("/") > 1
    if is_path and not Path(name).is_dir():
        raise InputError(
            f"the network 'hf:{name}' cannot be loaded (there is no such folder); give a name on "
            "the hub, or a folder with config.json"
        )
    try:
        return transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # the hub, the file and the settings in it may all be at fault
        raise InputError(
            f"the network 'hf:{name}' cannot be loaded ({_reason(error)}); give a name on the "
            "hub, or a folder with config.json"
        ) from error


def _kind(name: str, config: Any) -> tuple[Any, Any]:
    """Returns the class to build, and its configuration."""
    from transformers import (
        MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING as CLASSIFIERS,
    )
    from transformers import (
        MODEL_MAPPING as BACKBONES,
    )

    # Towers of images and texts are published without classes: only a saved classifier is one.
    tower = None if _answers(config) else getattr(config, "vision_config", None)
    if tower is not None:
        config = tower
    for kinds in (BACKBONES,) if tower is not None else (CLASSIFIERS, BACKBONES):
        if type(config) in kinds:
            kind = kinds[type(config)]
            return (kind[0] if isinstance(kind, tuple) else kind), config
    raise InputError(
        f"'hf:{name}' is a {config.model_type}, of which transformers has no network of images; "
        "give another one"
    )


def _make(name: str, kind: Any, config: Any) -> nn.Module:
    try:
        network: nn.Module = kind(config)
    except Exception as error:  # the settings are read from a file, and not checked
        raise InputError(
            f"'hf:{name}' cannot be built ({_reason(error)}); repair its config.json"
        ) from error
    return network


def _load(name: str, kind: Any, config: Any) -> nn.Module:
    try:
        network, found = kind.from_pretrained(
            name, config=config, ignore_mismatched_sizes=True, output_loading_info=True
        )
    except Exception as error:  # as in `_config`
        raise InputError(
            f"the pretrained weights of 'hf:{name}' cannot be loaded ({_reason(error)}); use "
            "`weights=None` for random weights, or give a checkpoint file with `weights=FILE`"
        ) from error
    new = [*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])]
    # The last layer of a classifier may be made anew, and nothing else.
    is_classifier = kind.__name__.endswith(_CLASSIFIER)
    inside = f"{network.base_model_prefix}."
    if lost := sorted(key for key in new if not is_classifier or key.startswith(inside)):
        raise InputError(
            f"the weights of 'hf:{name}' do not fit {kind.__name__}: {len(lost)} are missing or of "
            f"another shape, such as {lost[0]}; use another copy"
        )
    if new:
        logger.warning("hf:%s: its head is made anew (%s)", name, ", ".join(sorted(new)))
    loaded: nn.Module = network
    return loaded


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps transformers from printing tables and bars: what matters is told in our own words."""
    from transformers.utils import logging as theirs

    verbosity, has_bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(verbosity)
        if has_bars:
            theirs.enable_progress_bar()


def _reason(error: Exception) -> str:
    """Returns the first line of an error, without the hints that follow it."""
    return next(iter(str(error).split("\n")), "").strip() or type(error).__name__
