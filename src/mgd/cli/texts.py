"""Texts and defaults of the options, where a command has its own."""

import argparse
from typing import Any

from mgd.engine.options.detectors import is_listed
from mgd.engine.options.option import DETECTOR_COMMANDS, Command, Option


def help_of(item: Option, command: Command, everything: bool) -> str:
    """Returns the help's text of an option, or that it is not listed."""
    text = item.brief
    if everything:
        text = (item.train_text if command == "train" else "") or item.text
    if command == "evaluate" and (not everything or item.name == "data"):
        text = _IN_EVALUATION.get(item.name, text)
    if command in DETECTOR_COMMANDS:
        text = _OF_DETECTORS.get(item.name, text)
    if not is_listed(item, command) or not text:
        return argparse.SUPPRESS
    default = defaults_of(command).get(item.name, item.default)
    if isinstance(default, tuple):
        default = " ".join(map(str, default))
    if default != "" and default is not None and default is not False:
        text += f" (default: {default})"
    return text.replace("%", "%%")


_IN_EVALUATION = {
    "data": "folder with `train` and `valid` inside, or digits; or a run, or a file in it, "
    "measured on the images of the run",
    "arch": "network; default: the one that its file names",
    "teacher": "teacher network; default: the one that its file names",
    "student_resume": "run folder or file to measure, also .pt2 and .onnx; a .pt2 can run code",
    "use_pretrained": "1: measure published ImageNet weights",
    "experiment": "name of the folder with the results",
    "output": "folder in which it is made",
}
"""Texts of common options, where an evaluation uses them in another way."""

_DETECTOR_SGD_RATE = 0.01
_OF_DETECTORS = {
    "data": "folder of images with boxes, in the layout of COCO or of Pascal VOC",
    "augment": "random changes of training images. auto: a crop and a flip, with the boxes; none",
    "size": "length in pixels to which the longer side of an image is resized. auto: the size kept "
    "with the weights, else 640",
    "arch": "student: HEAD/BACKBONE, such as retinanet/resnet18. HEAD: retinanet, fcos, fasterrcnn "
    "or ssdlite; with _x0_5 behind it half the channels. BACKBONE: a network of torchvision, or "
    "timm:NAME; default: that of --student-resume, else retinanet/resnet18",
    "teacher": "teacher, named as in --arch; default: that of --teacher-resume",
    "teacher_resume": "run folder or file of the teacher",
    "student_resume": "run folder or file of the student's first weights",
    "use_pretrained": "1: published ImageNet weights for the backbone",
    "distiller": "method of distillation: mgd, mgd-adapter, fitnet, ofd or none",
    "points": "where features are compared. backbone: at its stages; pyramid: at its levels; auto: "
    "at both; FILE: YAML; default: auto",
    "learning_rate": f"learning rate; with --opt sgd {_DETECTOR_SGD_RATE}, if none is given",
    "patience": "epochs without a better mAP after which the run ends; 0: it never does",
}
"""Texts of options, where detectors use them in another way."""

_DETECTOR: dict[str, Any] = {
    "batch_size": 8,
    "epochs": 30,
    "opt": "adamw",
    "lr_schedule": "cosine",
}
"""From random weights, SGD at 0.01 learned next to nothing in the first 12 epochs on 205 images."""
_DETECTOR_OPTIMIZERS = {
    "adamw": {"learning_rate": 5e-4, "wd": 0.05},
    "sgd": {"learning_rate": _DETECTOR_SGD_RATE},
}
_DEFAULTS: dict[Command, dict[str, Any]] = {
    "distill": {"distiller": "mgd"},
    "train-detector": _DETECTOR,
    "distill-detector": {**_DETECTOR, "distiller": "mgd"},
}


def defaults_of(command: Command, opt: str = "") -> dict[str, Any]:
    """Returns the values that a command sets where none are given, with an optimizer, if named."""
    values = dict(_DEFAULTS.get(command, {}))
    if command in DETECTOR_COMMANDS:
        values |= _DETECTOR_OPTIMIZERS[opt or values["opt"]]
    return values
