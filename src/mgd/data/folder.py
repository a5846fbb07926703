"""Image folders: `train/CLASS/image` and `valid/CLASS/image` (or `val`)."""

import warnings
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.datasets import ImageFolder
from torchvision.transforms.v2.functional import pil_to_tensor

from mgd.data.splits import Split, Splits
from mgd.errors import InputError


class FolderSplit(Split):
    """The images of one folder per class, decoded when asked for."""

    def __init__(self, files: list[tuple[str, int]]):
        self.files = files
        self.labels = [label for _, label in files]

    def image(self, index: int) -> Tensor:
        """Decodes one image to uint8 RGB, (3, H, W).

        Raises:
            InputError: If the file is no image that can be read, naming it.
        """
        path = self.files[index][0]
        try:
            with warnings.catch_warnings():
                # Above Pillow's limit an image may be a decompression bomb: an error, not a note.
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(path) as image:
                    pixels: Tensor = pil_to_tensor(_to_rgb(image))
                    return pixels
        except (
            UnidentifiedImageError,
            OSError,
            ValueError,
            SyntaxError,
            Image.DecompressionBombError,
            Image.DecompressionBombWarning,
        ) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(
                f"cannot read image '{path}' ({reason}); repair or remove the file"
            ) from error

    def name(self, index: int) -> str:
        """Returns the file's path."""
        return self.files[index][0]


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        # Pillow clips 16-bit greys to white instead of scaling them.
        return image.convert("I").point(lambda value: value / 256).convert("L").convert("RGB")
    if image.mode in ("P", "PA", "LA", "La", "RGBa"):
        image = image.convert("RGBA")
    return image.convert("RGB")


def load_folder(root: str | Path) -> Splits:
    """Finds the classes and images below a data folder; no image is opened yet.

    Raises:
        InputError: If a part, a class or its images are missing, or if the classes of the two
            parts differ.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(
            f"data folder '{root}' does not exist; give a folder with `train` and `valid` inside, "
            "or the word digits for the embedded data set"
        )
    train = _find(root / "train")
    valid = _find(root / "valid" if (root / "valid").is_dir() else root / "val")
    classes, valid_classes = train.classes, valid.classes
    if classes != valid_classes:
        only = sorted(set(classes) ^ set(valid_classes))
        side = "train" if only[0] in classes else "valid"
        raise InputError(
            f"class '{only[0]}' is only in `{side}` of '{root}' ({len(only)} such classes); both "
            "parts need the same class folders: add or remove it"
        )
    return Splits(classes, FolderSplit(train.samples), FolderSplit(valid.samples))


def _find(part: Path) -> ImageFolder:
    if not part.is_dir():
        raise InputError(
            f"'{part.parent}' has no folder `{part.name}`; needed are `train` and `valid` (or "
            "`val`), each with one folder of images per class"
        )
    if not any(entry.is_dir() for entry in part.iterdir()):
        raise InputError(f"'{part}' has no class folders; put the images of each class into one")
    folder = ImageFolder(str(part), allow_empty=True)
    counts = torch.bincount(torch.tensor(folder.targets, dtype=torch.long), minlength=1)
    for index, name in enumerate(folder.classes):
        if index >= len(counts) or counts[index] == 0:
            raise InputError(
                f"class folder '{part / name}' holds no images ({', '.join(folder.extensions)}); "
                "add some or remove the folder"
            )
    return folder
