"""Builds networks by name: of this package, torchvision, timm, transformers, or your own code."""

import difflib
import inspect
import re
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.error import URLError

import torchvision
from torch import nn

from mgd.errors import InputError, import_extra
from mgd.models.cifar_resnet import CifarResNet
from mgd.models.detector_names import backbone_of, is_detector
from mgd.models.huggingface import create_hf, hf_classes
from mgd.models.mobilenet import MobileNetV1, mobilenet_v2_eccv
from mgd.models.shufflenet import shufflenet_v2, shufflenet_v2_x0_5
from mgd.models.weights import load_backbone, load_weights, read_weights
from mgd.own_code import import_own, told

Builder = Callable[[int], nn.Module]

OWN: dict[str, Builder] = {
    "mobilenet_v1": MobileNetV1,
    "mobilenet_v2_eccv": mobilenet_v2_eccv,
    "shufflenet_v2": shufflenet_v2,
    "shufflenet_v2_x0_5": shufflenet_v2_x0_5,
}

# These have the same parameters as torchvision's network of the second name, so its weights fit.
_TORCHVISION_TWIN = {
    "shufflenet_v2": "shufflenet_v2_x1_0",
    "shufflenet_v2_x0_5": "shufflenet_v2_x0_5",
}
TORCHVISION = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "mobilenet_v2")
_CIFAR = re.compile(r"cifar_resnet(8|14|20|32|44|56|110)(?:_x(\d+)_(\d+))?")

PRETRAINED = "pretrained"
_OTHER_WEIGHTS = (
    "use `weights=None` for random weights, or give a checkpoint file with `weights=FILE`"
)
NAMES = (*TORCHVISION, *OWN, *(f"cifar_resnet{depth}" for depth in (8, 14, 20, 32, 44, 56, 110)))


def create_model(name: str, num_classes: int = 1000, weights: str | None = None) -> nn.Module:
    """Builds a classifier by name.

    Args:
        name: One of `mgd.models.NAMES`; a CIFAR ResNet of another width, such as
            `cifar_resnet20_x0_5` for half the width; `torchvision:NAME`; `timm:NAME`; `hf:NAME`,
            a name on Hugging Face's hub or a folder with `config.json`; or
            `package.module:callable`, which is called with `num_classes=`.
        num_classes: K, the number of classes, at least 1.
        weights: `None` for random weights; "pretrained" for the published weights, which
            torchvision (version 1, those of the published tables), timm or transformers
            downloads; or the path of a checkpoint file.

    Returns:
        A network (B, 3, H, W) -> (B, K) in training mode. If pretrained weights have another
        number of classes, the last layer gets random weights, and the log says so. `hf:NAME`
        returns an object with `logits` (B, K), see `mgd.logits_of`; without them where no
        classifier is known, as for DINOv3, SigLIP and CLIP, of which the tower for images is built.

    Raises:
        InputError: If the name is unknown, the file does not fit, or the weights cannot be loaded.

    Example:
        >>> import torch, mgd
        >>> student = mgd.create_model("mobilenet_v2", num_classes=200)
        >>> student(torch.randn(2, 3, 64, 64)).shape
        torch.Size([2, 200])
    """
    if num_classes < 1:
        raise InputError(f"`num_classes` (={num_classes}) must be at least 1")
    if is_detector(name):
        raise InputError(
            f"'{name}' is a detector, and names no class of a whole image; use mgd train-detector, "
            "mgd distill-detector and mgd evaluate RUN"
        )
    source, colon, rest = name.partition(":")
    if source == "timm" and colon:
        network = _create_timm(rest, num_classes, weights == PRETRAINED)
    elif source == "hf" and colon:
        network = create_hf(rest, num_classes, weights == PRETRAINED)
    elif source == "torchvision" or name in TORCHVISION:
        network = _create_torchvision(rest or name, num_classes)
        if weights == PRETRAINED:
            _load_torchvision(network, rest or name)
    elif colon:
        network = _create_by_code(name, num_classes, weights)
    else:
        network = _create_own(name, num_classes)
        if weights == PRETRAINED:
            _load_torchvision(network, _TORCHVISION_TWIN.get(name, name))
    if weights not in (None, PRETRAINED):
        load_weights(network, read_weights(weights), weights)
    return network.train()


def is_code(name: str) -> bool:
    """Tells whether a network's name would import a module of the user's."""
    source, colon, _ = backbone_of(name).partition(":")
    return bool(colon) and source not in ("torchvision", "timm", "hf")


def published_classes(name: str) -> int | None:
    """Returns the number of classes of a network's published weights; 0 or `None` without any."""
    library, colon, rest = name.partition(":")
    if library == "timm" and colon:
        config = import_extra("timm", "timm", f"'{name}'").get_pretrained_cfg(rest)
        if config is None or _embeds(f"{config.architecture}.{config.tag}"):
            return None
        return int(config.num_classes)
    if library == "hf" and colon:
        return hf_classes(rest)
    twin = _TORCHVISION_TWIN.get(name, rest or name)
    if twin not in torchvision.models.list_models(torchvision.models):
        return None
    return len(_published(twin).meta["categories"])


def _embeds(name: str) -> bool:
    """Tells whether weights of timm end in an embedding, whose width timm gives as `num_classes`.

    So do the towers for images of CLIP and of the Perception Encoder, if not fine-tuned on classes.
    """
    return ("clip" in name or "vit_pe_core" in name) and "ft_in" not in name


def _create_own(name: str, num_classes: int) -> nn.Module:
    if name in OWN:
        return OWN[name](num_classes)
    match = _CIFAR.fullmatch(name)
    if match is None:
        near = difflib.get_close_matches(name, NAMES, n=3, cutoff=0.3)
        raise InputError(
            f"unknown network '{name}'; nearest: {', '.join(near) or 'none'}; or give "
            "torchvision:NAME, timm:NAME, hf:NAME or package.module:callable"
        )
    depth, whole, part = match.groups()
    width = float(f"{whole}.{part}") if whole else 1.0
    return CifarResNet(int(depth), width, num_classes)


def _create_torchvision(name: str, num_classes: int) -> nn.Module:
    known = torchvision.models.list_models(torchvision.models)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.3)
        raise InputError(
            f"torchvision has no classifier '{name}'; nearest: {', '.join(near) or 'none'}"
        )
    extra = {"aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    if extra:
        extra["init_weights"] = True
    network: nn.Module = torchvision.models.get_model(name, num_classes=num_classes, **extra)
    return network


def _published(name: str) -> Any:
    """Returns torchvision's entry of the weights with the published accuracy."""
    enum = torchvision.models.get_model_weights(name)
    return getattr(enum, "IMAGENET1K_V1", None) or next(iter(enum))


def _load_torchvision(network: nn.Module, name: str) -> None:
    try:
        published = _published(name)
    except ValueError as error:
        raise InputError(
            f"there are no published weights for '{name}'; {_OTHER_WEIGHTS}"
        ) from error
    try:
        state = published.get_state_dict(progress=False, check_hash=True)
    except (URLError, OSError, RuntimeError) as error:  # RuntimeError: wrong hash
        raise InputError(
            f"the pretrained weights of '{name}' are not in the cache and cannot be downloaded "
            f"({error}); {_OTHER_WEIGHTS}"
        ) from error
    load_backbone(network, dict(state), str(published))


def _create_timm(name: str, num_classes: int, pretrained: bool) -> nn.Module:
    timm = import_extra("timm", "timm", f"'timm:{name}'")
    if not timm.is_model(name.partition(".")[0]):
        near = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.3)
        raise InputError(f"timm has no network '{name}'; nearest: {', '.join(near) or 'none'}")
    create = partial(timm.create_model, name, pretrained=pretrained, num_classes=num_classes)
    try:
        network: nn.Module = _of_any_size(create)
    except (URLError, OSError, RuntimeError) as error:
        if not pretrained:
            raise
        reason = str(error).splitlines()[0]
        raise InputError(
            f"the pretrained weights of 'timm:{name}' cannot be loaded ({reason}); {_OTHER_WEIGHTS}"
        ) from error
    return network


def _of_any_size(create: Callable[..., nn.Module]) -> nn.Module:
    """Creates a network of timm, for images of any size where its class can do that.

    Without the option a vision transformer takes its own size alone. With it, at its own size it
    computes what it computes without, and its weights are the same.
    """
    option = "dynamic_img_size"
    try:
        return create(**{option: True})
    except TypeError as error:
        if option not in str(error):
            raise
    return create()


def _create_by_code(name: str, num_classes: int, weights: str | None) -> nn.Module:
    builder = import_own("network", name)
    if weights == PRETRAINED:
        raise InputError(
            f"there are no published weights for '{name}', which is your code; {_OTHER_WEIGHTS}"
        )
    try:
        inspect.signature(builder).bind(num_classes=num_classes)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"network '{name}' cannot be called with num_classes={num_classes} ({error}); write a "
            "function that takes `num_classes` and returns the network"
        ) from error
    try:
        network = builder(num_classes=num_classes)
    except InputError:
        raise
    except Exception as error:  # the user's code, which may raise anything
        raise InputError(
            f"network '{name}' fails with num_classes={num_classes} ({told(error)}); repair it"
        ) from error
    if not isinstance(network, nn.Module):
        raise InputError(
            f"network '{name}' returned a {type(network).__name__}; needed is a torch.nn.Module"
        )
    return network
