"""Options of the data."""

from dataclasses import dataclass

from mgd.data.decode import BitDepth
from mgd.data.transforms import Augment
from mgd.engine.options.option import TRAINING, Group, option
from mgd.runfolder import names


@dataclass(frozen=True, kw_only=True)
class DataConfig(Group):
    """Data."""

    data: str = option(
        "",
        "folder with `train` and `valid` inside, or digits",
        brief="folder with `train` and `valid` inside, or digits",
        shown="DATA",
    )
    augment: Augment = option(
        "auto",
        "random changes of training images. imagenet: crop at a random scale, and flip; cifar: "
        "shift by up to an eighth of the size, and flip; shift: as cifar, without the flip; none. "
        "auto: shift for digits, else cifar up to 40 px and imagenet above",
    )
    train_images: int = option(
        0,
        "number of training images to use, the same share of each class; 0: all",
        least=0,
        commands=TRAINING,
    )
    holdout: float = option(
        0.0,
        "share of the training images to choose the best epoch on, from 0 to 0.9; the images in "
        "`valid` are then a test set, which chooses nothing",
        least=0,
        most=0.9,
    )
    unlabelled: tuple[str, ...] = option(
        (),
        "folder of images to train on of which the class is not known: any tree, its class "
        "folders, if any, are not read. The teacher's terms are taken on them as on all others. "
        "Several folders: repeat the option",
        shown="DIR",
        brief="folder of more images, without labels",
        commands=("distill",),
    )
    unlabelled_batch: int = option(
        0,
        "images of --unlabelled in every step, beside --batch-size images with a label; 0: "
        "--batch-size images of both together, so that an epoch has each image once",
        least=0,
        commands=("distill",),
    )
    label_free: bool = option(
        False,
        "train without any label: DATA is any tree of images. The student's classes are the "
        "teacher's, and the epoch is chosen by how often both agree on held-out images, a tenth or "
        "--holdout of all. With a folder `valid` of classes in DATA the accuracy on it is measured "
        "as well",
        brief="no image to train on has a label",
        commands=("distill",),
    )
    skip_bad_images: bool = option(
        False,
        "read every image once before the run and leave out those that cannot be read; "
        f"{names.BAD_IMAGES} in the run folder lists them",
    )
    bit_depth: BitDepth = option(
        "auto",
        "how many bits the grey values in 16-bit image files have, from 8 to 16; they are divided "
        "by 2^(N-8). auto: as many as a TIFF says in MaxSampleValue, else 16, and an image whose "
        "values are all below 4096 is refused",
        least=8,
        most=16,
    )
    batch_size: int = option(
        256,
        "images per step on this node, over all its devices",
        flags=("-b",),
        least=1,
        brief="images per step on this node",
    )
    workers: int = option(
        4,
        "processes per device that load images, at most one per CPU core; 0: load in the main "
        "process",
        flags=("-j",),
        least=0,
        brief="processes per device that load images",
    )
