"""How to load a student, as lines of Python: with this package, and with its library alone."""

from mgd.models import TORCHVISION, is_code
from mgd.runfolder import names

_WITHOUT_SIDE_HEADS = ("googlenet", "inception_v3")


def with_mgd(arch: str) -> str:
    """Returns lines that load a run's student and name the class of an image `photo.jpg`.

    Args:
        arch: Of the student, as in `mgd.create_model`.
    """
    own = f", arch={arch!r}" if is_code(arch) else ""
    return (
        "import mgd\n"
        "from PIL import Image\n"
        "from torchvision.transforms.functional import pil_to_tensor\n"
        f'network, about = mgd.load_network("{names.STUDENT}"{own})\n'
        'image = about.view(pil_to_tensor(Image.open("photo.jpg").convert("RGB")))\n'
        "scores = mgd.logits_of(network(image[None]))\n"
        "print(about.classes[int(scores.argmax())])"
    )


def without_mgd(arch: str, num_classes: int) -> str:
    """Returns lines that load a run's student with the library that the network is of.

    Args:
        arch: Of the student, as in `mgd.create_model`.
        num_classes: Number of its classes.

    Returns:
        The lines; empty for a network that only this package builds.
    """
    source, colon, rest = arch.partition(":")
    if source == "torchvision" or arch in TORCHVISION:
        name = rest or arch
        extra = ", aux_logits=False, init_weights=True" if name in _WITHOUT_SIDE_HEADS else ""
        module = "import torchvision"
        build = f"torchvision.models.get_model({name!r}, num_classes={num_classes}{extra})"
    elif source == "timm" and colon:
        module, build = "import timm", f"timm.create_model({rest!r}, num_classes={num_classes})"
    elif is_code(arch):
        module, build = f"from {source} import {rest}", f"{rest}(num_classes={num_classes})"
    else:
        return ""
    return (
        f"{module}\n"
        "from safetensors.torch import load_file\n"
        f"network = {build}\n"
        f'network.load_state_dict(load_file("{names.STUDENT}"))\n'
        "network.eval()"
    )
