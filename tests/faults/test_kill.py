"""`kill -9` anywhere: the run goes on and ends bit-identical to one that nobody killed."""

import random

import pytest

from faults.killing import Place, finish, kill, left_by
from mgd.engine.loop.checkpoint import load_checkpoint

EPOCHS, STEPS = 8, 8
WORDS = [
    *("distill", "digits", "--size", "8", "--arch", "cifar_resnet8_x0_25", "--teacher"),
    *("cifar_resnet8_x0_5", "--use-pretrained", "0", "--mgd-reducer", "rd", "--mgd-with-kd", "1"),
    *("--mgd-update-freq", "2", "--mgd-images", "40", "--train-images", str(10 * STEPS)),
    *("-b", "5", "--grad-accum-steps", "2", "--checkpoint-every", "1", "--tensorboard", "0"),
    *("--experiment", "run", "--epochs", str(EPOCHS), "--loss-factor", "1000"),
    *("--opt", "adamw", "--lr", "0.005", "--norm-weight-decay", "0", "--bias-weight-decay", "0"),
    *("--clip-grad-norm", "5", "--model-ema", "--patience", "50"),
]
KILLS = 20
KINDS = ("batch", "step", "file", "write")


def words(workers):
    return [*WORDS, "--workers", str(workers), "--resume", "auto"]


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """What the run leaves if nobody kills it, and all the places that it comes by."""
    folder = tmp_path_factory.mktemp("whole")
    places = finish(words(0), folder)
    left = left_by(folder)
    assert [row["epoch"] for row in left["rows"]] == [str(epoch) for epoch in range(EPOCHS)]
    return left, places


@pytest.fixture
def whole(whole_run):
    return whole_run[0]


def end_and_compare(folder, workers, whole):
    finish(words(workers), folder)
    assert left_by(folder) == whole


def draw(places, seed):
    """Draws as many places of each kind, in the order of the run; some steps stay to be done."""
    dice = random.Random(seed)
    drawn = []
    for kind in KINDS:
        found = [
            index
            for index, place in enumerate(places)
            if place.kind == kind and place.steps < (EPOCHS - 1) * STEPS
        ]
        drawn += dice.sample(found, KILLS // len(KINDS))
    return [places[index] for index in sorted(drawn)]


def steps_done(folder):
    """Returns how many steps the checkpoint holds from which the next life goes on."""
    path = folder / "runs" / "run" / "last.ckpt"
    if not path.exists():
        return 0
    saved = load_checkpoint(path)
    return saved["epoch"] * STEPS + saved["step"]


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_at_random_places(tmp_path, whole_run, workers):
    """A place is counted from the checkpoint that a life goes on from, so each life gets to it."""
    whole, places = whole_run
    reached = []
    for place in draw(places, seed=workers):
        steps = max(0, place.steps - steps_done(tmp_path))
        kill(words(workers), tmp_path, place._replace(steps=steps))
        reached.append(steps_done(tmp_path))
    assert len(reached) == KILLS
    assert reached == sorted(reached)
    assert len({steps // STEPS for steps in reached}) >= EPOCHS - 2  # all over the run
    end_and_compare(tmp_path, workers, whole)


def test_killed_before_each_of_its_file_operations(tmp_path, whole):
    """The n-th life dies just before its n-th change of a file, and so between all of them."""
    for number in range(1, KILLS + 1):
        kill(words(0), tmp_path, Place("file", number))
    end_and_compare(tmp_path, 0, whole)


def test_killed_inside_a_checkpoint_write(tmp_path, whole):
    for number in (1, 2, 9, 10, 11):
        kill(words(0), tmp_path, Place("write", number))
        left = [file.name for file in (tmp_path / "runs" / "run").glob(".*.ckpt.*")]
        assert len(left) == 1  # half a checkpoint, which the next life takes away
    end_and_compare(tmp_path, 0, whole)
