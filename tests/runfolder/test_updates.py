"""Updates of the matching: all are kept, and a resumed run has each of them once."""

import pytest

from mgd.errors import InputError
from mgd.runfolder import MatchingRecord, PointUpdate, RunFolder, read_run, read_updates
from recorded import ALL_COLUMNS, OPTIONS, a_matching, a_point, an_epoch


@pytest.fixture
def folder(tmp_path):
    found = RunFolder(tmp_path, OPTIONS, ALL_COLUMNS)
    yield found
    found.close()


def epochs_of(folder):
    return [update.epoch for update in read_updates(folder.path)]


def test_every_update_has_a_row_for_each_point(folder):
    points = [a_point(), a_point(teacher="a,b", student="c", cost_after=1 / 3, dead_channels=2)]
    for epoch in (0, 5):
        folder.write_matching(MatchingRecord(epoch=epoch, points=points))
    found = read_updates(folder.path)
    assert [(each.epoch, each.teacher) for each in found] == [
        (0, "relu$1"), (0, "a,b"), (5, "relu$1"), (5, "a,b"),
    ]  # fmt: skip
    assert found[3] == PointUpdate(
        epoch=5, teacher="a,b", student="c", cost_before=1.0, cost_after=1 / 3, churn=0.25,
        dead_channels=2, images=40, seconds=0.1,
    )  # fmt: skip
    folder.add_epoch(an_epoch())
    assert read_run(folder.path).updates == found


def test_the_file_is_a_plain_table(folder):
    folder.write_matching(a_matching(3))
    assert (folder.path / "matching.csv").read_text() == (
        "epoch,teacher,student,cost_before,cost_after,churn,dead_channels,images,seconds\n"
        "3,relu$1,relu$2,1.0,0.5,0.25,0,40,0.1\n"
    )


def test_an_update_that_is_made_again_takes_the_place_of_the_first(folder):
    for epoch in (0, 2, 4, 2):
        folder.write_matching(a_matching(epoch))
    assert epochs_of(folder) == [0, 2]


@pytest.mark.parametrize(("epoch", "left"), [(5, [0, 2, 4]), (4, [0, 2, 4]), (3, [0, 2]), (0, [0])])
def test_a_resumed_run_drops_later_updates_and_keeps_that_of_its_own_epoch(folder, epoch, left):
    """Inside an epoch its update is not made again."""
    for each in (0, 2, 4):
        folder.write_matching(a_matching(each))
    folder.keep_epochs_before(epoch)
    assert epochs_of(folder) == left


def test_a_run_of_an_earlier_version_has_no_updates(folder):
    folder.write_matching(a_matching())
    (folder.path / "matching.csv").unlink()
    folder.add_epoch(an_epoch())
    run = read_run(folder.path)
    assert (run.updates, len(run.points)) == ([], 1)
    folder.keep_epochs_before(0)
    assert not (folder.path / "matching.csv").exists()


def test_a_damaged_table_of_updates_is_one_line(folder):
    (folder.path / "matching.csv").write_text("epoch,teacher\n1,a\n")
    with pytest.raises(InputError, match=r"matching\.csv: no 'student'"):
        read_updates(folder.path)
