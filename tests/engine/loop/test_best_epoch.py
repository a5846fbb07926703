"""Which epoch is kept as the best."""

import pytest

from engine.loop.test_trainer import rows_of
from mgd.engine.loop.evaluation import Scores
from mgd.engine.loop.progress import Progress
from mgd.engine.run import train
from mgd.runfolder import read_run


def kept(tops, **options):
    """Returns the epoch that is the best at last, and those that were so when they ended."""
    progress = Progress(**options)
    found = [epoch for epoch, top1 in enumerate(tops) if progress.end_epoch(scored(top1))]
    return progress.best["epoch"], found


def scored(top1):
    return Scores(loss=1.0, top1=top1, top5=100.0, images=10, images_per_second=1.0, per_class=())


@pytest.mark.parametrize(
    ("tops", "best", "found"),
    [([1, 3, 2], 1, [0, 1]), ([1, 3, 3, 2], 2, [0, 1, 2]), ([0, 0], 1, [0, 1]), ([5], 0, [0])],
)
def test_the_best_epoch_is_the_later_of_equals(tops, best, found):
    assert kept(tops) == (best, found)


def test_the_last_epoch_can_be_kept():
    assert kept([3, 1, 2], keeps_last=True) == (2, [0, 1, 2])


@pytest.mark.parametrize("keep", ["best", "last"])
def test_a_run_ends_with_the_weights_of_the_epoch_that_it_keeps(fast_run, keep):
    folder = train(fast_run.replace(keep_epoch=keep, epochs=4, learning_rate=3.0)).folder
    rows = [float(row["valid_top1"]) for row in rows_of(folder)]
    expected = 3 if keep == "last" else max(range(4), key=lambda epoch: (rows[epoch], epoch))
    assert read_run(folder).result.best_epoch == expected
    assert read_run(folder).result.valid_top1 == pytest.approx(rows[expected])
