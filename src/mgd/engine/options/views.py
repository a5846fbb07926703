"""Options of the views: how student and teacher see an image."""

from dataclasses import dataclass
from typing import Any, Literal

from mgd.engine.options.option import WITH_TEACHER, Group, option

_OWN = "default: the one kept with the weights, else the published one of the network"


@dataclass(frozen=True, kw_only=True)
class ViewConfig(Group):
    """View of the images."""

    size: int | Literal["auto"] = option(
        "auto",
        "width and height of the images that the student sees, in pixels. auto: the size kept with "
        "its weights, else that of the published network: 32 for CIFAR networks, 224 for most",
        least=2,
        most=4096,
        brief="side of the images, in pixels",
        train_text="width and height of the images that the network sees, in pixels. auto: the "
        "size kept with its weights, else that of the published network: 32 for CIFAR networks, "
        "224 for most",
    )
    mean: tuple[float, ...] = option(
        (),
        f"mean of red, green and blue, where white is 1; {_OWN}",
        shown="X",
    )
    std: tuple[float, ...] = option(
        (), f"standard deviation of red, green and blue, where white is 1; {_OWN}", shown="X"
    )
    interpolation: Literal["", "nearest", "bilinear", "bicubic"] = option(
        "", f"how images are resized; {_OWN}"
    )
    crop: Literal["", "center", "squash", "border"] = option(
        "",
        "what evaluation sees of an image. center: its middle; squash: all of it, stretched to a "
        f"square; border: all of it, with a border; {_OWN}, but with --augment cifar, shift and "
        "none squash",
    )
    crop_pct: float | None = option(
        None,
        f"share of an image's side that evaluation keeps, from 0.01 to 2; {_OWN}",
        least=0.01,
        most=2,
    )
    colour: Literal["", "RGB", "BGR", "L"] = option(
        "", "order of the colours that the network takes; L: grey; default: RGB"
    )
    teacher_size: int | Literal["auto"] = option(
        "auto",
        "width and height of the images that the teacher sees, in pixels. auto: the size kept "
        "with its weights, or that its weights were published with; else --size, if it is given",
        least=2,
        most=4096,
        brief="the same of the teacher",
        commands=WITH_TEACHER,
    )
    teacher_mean: tuple[float, ...] = option(
        (), "--mean of the teacher", commands=WITH_TEACHER, shown="X"
    )
    teacher_std: tuple[float, ...] = option(
        (), "--std of the teacher", commands=WITH_TEACHER, shown="X"
    )
    teacher_interpolation: Literal["", "nearest", "bilinear", "bicubic"] = option(
        "", "--interpolation of the teacher", commands=WITH_TEACHER
    )
    teacher_crop: Literal["", "center", "squash", "border"] = option(
        "", "--crop of the teacher", commands=WITH_TEACHER
    )
    teacher_crop_pct: float | None = option(
        None, "--crop-pct of the teacher", least=0.01, most=2, commands=WITH_TEACHER
    )
    teacher_colour: Literal["", "RGB", "BGR", "L"] = option(
        "", "--colour of the teacher", commands=WITH_TEACHER
    )

    def given(self, whose: Literal["student", "teacher"]) -> dict[str, Any]:
        """Returns what was given of one network's view, by the names that `mgd.View` has."""
        prefix = "teacher_" if whose == "teacher" else ""
        values = {
            name: getattr(self, prefix + name)
            for name in ("size", "mean", "std", "interpolation", "crop", "crop_pct", "colour")
        }
        return {
            name: value for name, value in values.items() if value not in ("auto", (), "", None)
        }
