"""Sources: the view that a network was published with, as the library that published it says."""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torchvision

from mgd.errors import InputError, import_extra
from mgd.views.processors import load_processor, processor_plain, shown_by
from mgd.views.proof import Show

# Our own networks, and whose ImageNet images they see.
_TWINS = {
    "mobilenet_v1": "mobilenet_v2",
    "mobilenet_v2_eccv": "mobilenet_v2",
    "shufflenet_v2": "shufflenet_v2_x1_0",
    "shufflenet_v2_x0_5": "shufflenet_v2_x0_5",
}
_CIFAR = re.compile(r"cifar_resnet\d+(_x\d+_\d+)?")
_BARE = (*_TWINS, "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "mobilenet_v2")
_INSTEAD = "give mgd.View(mean, std, size)"


class Published(NamedTuple):
    """How a network sees an image, as its library says."""

    name: str
    plain: dict[str, Any]
    """Values of a `View`, by name."""
    show: Show | None = None
    """The library's own code, where it can be called."""


def read_view(source: Any) -> Published:
    """Returns what is published about a network's images.

    Args:
        source: As in `View.from_network`.

    Raises:
        InputError: If nothing tells the view, or the package that does is missing.
    """
    if isinstance(source, str):
        return _of_name(source)
    return _of_object(type(source).__name__, source)


def _of_object(name: str, source: Any) -> Published:
    for attribute in ("pretrained_cfg", "data_config"):  # of timm's networks; of its processor
        if isinstance(config := getattr(source, attribute, None), Mapping):
            return _of_timm(name, config, source)
    source = getattr(source, "image_processor", source)  # of a processor of images and texts
    if hasattr(source, "do_resize"):
        return Published(name, processor_plain(source), shown_by(source))
    if isinstance(source, torchvision.models.WeightsEnum):
        name, source = str(source), source.transforms()
    if all(hasattr(source, value) for value in ("crop_size", "resize_size", "mean", "std")):
        return _of_torchvision(name, source)
    raise InputError(
        f"a {name} does not tell how it sees an image; give the name of a published network, its "
        "timm network, torchvision weights or Hugging Face image processor, or "
        "mgd.View(mean, std, size)"
    )


def _of_name(name: str) -> Published:
    library, colon, rest = name.partition(":")
    if library == "timm" and colon:
        return _of_timm(name, _timm_config(rest))
    if library == "hf" and colon:
        return _of_object(name, load_processor(rest))
    if library == "torchvision" and colon:
        return _of_torchvision_name(name, rest)
    if colon:
        raise InputError(f"'{name}' does not tell how it sees an image; {_INSTEAD}")
    if _CIFAR.fullmatch(name):
        # Small images: nothing is cut off.
        return Published(name, {"size": 32, "crop": "squash", "crop_pct": 1.0})
    if name in _BARE:
        return _of_torchvision_name(name, _TWINS.get(name, name))
    raise InputError(
        f"unknown network '{name}'; {_nearest(name, _BARE)}; or give torchvision:NAME, timm:NAME "
        "or hf:NAME"
    )


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.3)
    return f"nearest: {', '.join(near) or 'none'}"


def _timm_config(name: str) -> Mapping[str, Any]:
    timm = import_extra("timm", "timm", f"'timm:{name}'")
    network = name.partition(".")[0]
    if not timm.is_model(network):
        raise InputError(f"timm has no network '{name}'; {_nearest(name, timm.list_models())}")
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError as error:  # its own word for an unknown tag
        known = timm.list_pretrained(f"{network}.*")
        raise InputError(
            f"timm has no weights '{name}'; {_nearest(name, known)}; or give 'timm:{network}'"
        ) from error
    if config is None:
        raise InputError(f"timm does not tell how '{name}' sees an image; {_INSTEAD}")
    values: Mapping[str, Any] = config.to_dict()
    return values


def _of_timm(name: str, config: Mapping[str, Any], network: Any = None) -> Published:
    channels, height, width = config.get("input_size") or (3, 224, 224)
    if height != width or channels != 3:
        raise InputError(
            f"{name} takes {channels} x {height} x {width} images; an mgd.View has square images "
            "of three colours"
        )
    # A network that was made for another size, by timm.create_model(name, img_size=...).
    made_for = getattr(getattr(network, "patch_embed", None), "img_size", None) or (height, width)
    if made_for[0] != made_for[1]:
        raise InputError(f"{name} takes images of {made_for} px; an mgd.View has square images")
    plain = {"size": made_for[0], "crop": config.get("crop_mode")}
    plain |= {key: config.get(key) for key in ("mean", "std", "interpolation", "crop_pct")}
    # What timm itself takes where a configuration is silent.
    silent = {"interpolation": "bicubic"}
    return Published(name, silent | {key: value for key, value in plain.items() if value})


def _of_torchvision_name(name: str, network: str) -> Published:
    known = torchvision.models.list_models(torchvision.models)
    if network not in known:
        raise InputError(f"torchvision has no classifier '{network}'; {_nearest(network, known)}")
    weights = torchvision.models.get_model_weights(network)
    published = getattr(weights, "IMAGENET1K_V1", None) or next(iter(weights), None)
    if published is None:
        raise InputError(f"torchvision has no weights of '{network}'; {_INSTEAD}")
    # Version 1, as the weights that `create_model` loads.
    return _of_torchvision(name, published.transforms())


def _of_torchvision(name: str, transforms: Any) -> Published:
    size, resized = transforms.crop_size, transforms.resize_size
    if len(size) != 1 or len(resized) != 1:
        raise InputError(
            f"{name} resizes to {resized} px and crops to {size} px; an mgd.View has square images"
        )
    plain = {
        "size": size[0],
        "crop_pct": size[0] / resized[0],
        "interpolation": transforms.interpolation.value.removesuffix("-exact"),
        "mean": transforms.mean,
        "std": transforms.std,
    }
    return Published(name, plain, transforms)
