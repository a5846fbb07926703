"""Options given elsewhere than on the command line: in a YAML file, or in a run folder."""

import difflib
import logging
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from mgd.data import DIGITS
from mgd.data.boxes_by_place import has_boxes
from mgd.engine.options.config import OPTIONS, read_yaml
from mgd.engine.options.option import Option, Switch
from mgd.errors import InputError
from mgd.models import is_code
from mgd.runfolder import is_detection, is_evaluation, is_run, names

logger = logging.getLogger(__name__)

_IMAGES = ("data", "holdout", "train_images", "seed", "skip_bad_images", "bit_depth", "label_free")
"""Options of a run that say which images it was trained and chosen on."""


def is_network(given: Mapping[str, Any]) -> bool:
    """Tells whether a network stands in the place of DATA: a run folder, or a file."""
    place = Path(given.get("data", ""))
    return "student_resume" not in given and (is_run(place) or place.is_file())


def check_place(values: Mapping[str, Any], command: str) -> None:
    """Checks what stands in the place of DATA, as far as its kind tells that it cannot be used.

    Args:
        values: What was given, by the option's name.
        command: The command's name.

    Raises:
        InputError: With what the place is, and what to give.
    """
    place = Path(values["data"])
    if is_run(place):
        raise InputError(
            f"'{place}' is a run folder, and no folder of images; give the images it is to see"
        )
    measured = ("student_resume", "use_pretrained", "pretrained", "teacher_resume")
    if command != "evaluate" or any(name in values for name in measured) or place.name == DIGITS:
        return
    if not place.exists():
        raise InputError(f"'{place}' does not exist; {_GIVE}")
    if is_evaluation(place) or is_detection(place):
        raise InputError(f"'{place}' holds what an evaluation found, and no network; {_GIVE}")
    if has_boxes(place):
        raise InputError(
            f"'{place}' has images with boxes, and nothing says which detector; {_GIVE}"
        )
    if not any((place / part).is_dir() for part in ("train", "valid", "val")):
        raise InputError(f"'{place}' is no run folder, and has no images; {_GIVE}")


_GIVE = (
    "give a run folder (mgd evaluate RUN), or images and a network (mgd evaluate DATA --model FILE)"
)


def images_of_run(place: Path) -> dict[str, Any]:
    """Returns the options that say which images a run is measured on.

    Args:
        place: The run folder, or a file in it.

    Raises:
        InputError: If the file lies in no run folder: nothing says on which images to measure it.
    """
    folder = place if is_run(place) else place.parent
    if not is_run(folder):
        raise InputError(
            f"'{place}' is a file, and no folder of images; to measure a network give both: "
            f"mgd evaluate DATA --model {place}"
        )
    # Only those of the images are taken, and none of them names code.
    values = options_in(folder / names.ARGS, given=OPTIONS)
    if not values.get("data"):
        raise InputError(f"'{folder / names.ARGS}' names no data; give it: mgd evaluate DATA")
    if values.get("label_free"):  # --holdout cut images without a label
        values.pop("holdout", None)
    return {name: value for name, value in values.items() if name in _IMAGES}


_NEW_NAMES = {former: option.flag for option in OPTIONS.values() for former in option.former}
_BY_KEY = {key: option for option in OPTIONS.values() for key in option.keys}


def options_in(path: Path, given: Collection[str]) -> dict[str, Any]:
    """Reads a YAML file of options, such as a run's `args.yaml`.

    Args:
        path: The file.
        given: Names of the options on the command line, which win.

    Returns:
        The file's values by the option's field.
    """
    content = read_yaml(path, "-c")
    if not isinstance(content, dict):
        raise InputError(f"-c {path} holds no options; write one `name: value` a line")
    keys: dict[str, Any] = {}
    for key, value in content.items():
        name = _option_named(path, key).name
        warn_of_former_name("--" + str(key).replace("_", "-"))
        if name in keys:
            raise InputError(
                f"-c {path}: '{keys[name]}' and '{key}' are the same option; keep one of the two"
            )
        keys[name] = key
        if name not in given and _may_run_code(name, str(value)):
            raise InputError(
                f"-c {path}: {key} '{value}' would run code named in a file; "
                f"give --{key} on the command line"
            )
    return {name: content[key] for name, key in keys.items()}


def warn_of_former_name(flag: str) -> None:
    """Warns of a flag by the name that it had in an earlier version."""
    if flag in _NEW_NAMES:
        logger.warning(
            "%s is now called %s; the old name will go with one of the next versions",
            flag,
            _NEW_NAMES[flag],
        )


def _may_run_code(name: str, value: str) -> bool:
    """Tells whether an option's value would run code: a module of the user's, or in a .pt2 file."""
    if name in ("arch", "teacher"):
        return is_code(value)
    if name == "distiller":
        return ":" in value
    return name in ("student_resume", "teacher_resume") and value.endswith(".pt2")


def words(values: Mapping[str, Any]) -> Iterator[str]:
    """Yields a file's options as command-line words; DATA, which is no flag, is left out."""
    for name, value in values.items():
        item = OPTIONS[name]
        if name == "data" or value is None or value == "" or (item.kind is bool and not value):
            continue
        if item.kind is bool and value is True:
            yield item.flag
            continue
        if isinstance(value, bool) and item.choices == get_args(Switch):
            value = int(value)
        # One word, so that neither a dash in a value nor a list takes in what stands beside it.
        parts = value if isinstance(value, list) else [value]
        texts = parts if item.kind is tuple and item.part is str else [" ".join(map(str, parts))]
        for text in texts:
            yield f"{item.flag}={text}"


def _option_named(path: Path, key: Any) -> Option:
    name = str(key).replace("_", "-")
    if name not in _BY_KEY:
        near = difflib.get_close_matches(name, _BY_KEY, n=1)
        nearest = f"; nearest: {near[0]}" if near else "; mgd distill --help-all lists them all"
        raise InputError(f"-c {path}: unknown option '{key}'{nearest}")
    return _BY_KEY[name]
