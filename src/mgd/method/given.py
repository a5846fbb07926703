"""What is asked of the networks and of the images that a distiller is given."""

from torch import Tensor, nn

from mgd.errors import InputError
from mgd.inside import Images
from mgd.views import Preprocess, View


def make_preprocess(owner: str, view: View | None, example: Images) -> nn.Module:
    """Makes what gives a network its view of the images; without a view they stay as they are.

    Args:
        owner: "teacher" or "student", for the message.
        view: Of that network.
        example: A batch of images as `mgd.Distiller` takes them.

    Raises:
        InputError: If the example has other numbers than a network with or without a view takes.
    """
    kind = str(example[0].dtype).removeprefix("torch.")
    if view is None:
        if not example[0].is_floating_point():
            raise InputError(
                f"`example` is {kind}, but the {owner} takes floating-point numbers; "
                f"give `{owner}_view`, or images that are normalised"
            )
        return nn.Identity()
    if not isinstance(example, Tensor):
        raise InputError(
            f"`example` is a list of images, which the {owner} resizes and normalises by itself; "
            f"leave `{owner}_view` out"
        )
    if example.dim() != 4 or example.shape[1] != 3:
        raise InputError(
            f"`example` has shape {tuple(example.shape)}; for `{owner}_view` it must be RGB images "
            "(B, 3, H, W)"
        )
    # A resized image may reach a little beyond black and white.
    if example.is_floating_point() and not -0.5 < example.min() <= example.max() < 1.5:
        raise InputError(
            f"`example` goes from {example.min():.3g} to {example.max():.3g}; `{owner}_view` "
            "normalises it, so give images from 0 to 1, or uint8, that are not normalised yet"
        )
    return Preprocess(view).to(example.device)


def check_apart(teacher: nn.Module, student: nn.Module) -> None:
    """Checks that training the student leaves the teacher alone.

    Raises:
        InputError: If the two are one network, or share weights.
    """
    if teacher is student:
        raise InputError("teacher and student are one network; give two, or a copy of one")
    # Two parameters may share their memory. On the meta device there is none, and all are at 0.
    taken = {weight.data_ptr() for weight in teacher.parameters()} - {0}
    for name, weight in student.named_parameters():
        if weight.data_ptr() in taken:
            raise InputError(
                f"the student's '{name}' is the teacher's as well, so that training would change "
                "the teacher; give the student a copy, as copy.deepcopy makes it"
            )
