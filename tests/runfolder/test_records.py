"""Records: what goes into a file comes out of it, and what is not a record is refused."""

import csv
import io
import json
import math

import pytest

from mgd.runfolder import EpochRecord, MatchingRecord, RunResult, epoch_columns
from recorded import a_matching, a_result, an_epoch

OPTIONAL = {
    "teacher_top1": 91.25,
    "teacher_top5": 99.5,
    "matching_cost": 0.1 + 0.2,
    "matching_churn": 0.0,
    "skipped_steps": 0,
}


def through_csv(record):
    text = io.StringIO()
    writer = csv.DictWriter(text, list(record.row()))
    writer.writeheader()
    writer.writerow(record.row())
    (row,) = csv.DictReader(io.StringIO(text.getvalue()))
    return EpochRecord.from_row(row)


@pytest.mark.parametrize("options", [{}, OPTIONAL], ids=["least", "most"])
def test_an_epoch_goes_through_csv_without_losing_a_bit(options):
    record = an_epoch(3, **options)
    assert through_csv(record) == record


def test_a_value_that_is_not_finite_stays_what_it_is():
    record = through_csv(an_epoch(matching_cost=math.nan, valid_loss=math.inf))
    assert math.isnan(record.matching_cost)
    assert record.valid_loss == math.inf


def test_the_columns_are_those_of_every_summary_so_far():
    losses = ["loss", "loss_ce", "loss_kd"]
    assert epoch_columns(losses, teacher=False, matching=False, skips=False) == [
        "epoch", "lr", "loss", "loss_ce", "loss_kd", "train_top1", "valid_loss", "valid_top1",
        "valid_top5", "images_per_s", "data_wait", "seconds",
    ]  # fmt: skip
    assert epoch_columns(losses, teacher=True, matching=True, skips=True) == [
        "epoch", "lr", "loss", "loss_ce", "loss_kd", "train_top1", "valid_loss", "valid_top1",
        "valid_top5", "teacher_top1", "teacher_top5", "matching_cost", "matching_churn",
        "skipped_steps", "images_per_s", "data_wait", "seconds",
    ]  # fmt: skip


def test_a_row_has_the_columns_in_their_order():
    columns = epoch_columns(["loss", "loss_ce"], teacher=True, matching=True, skips=True)
    assert list(an_epoch(**OPTIONAL).row()) == columns
    assert [name for name in columns if name not in OPTIONAL] == list(an_epoch().row())


def test_an_empty_cell_is_none():
    row = {**an_epoch().row(), "teacher_top1": "", "skipped_steps": "", "loss_kd": ""}
    assert EpochRecord.from_row(row) == an_epoch()


@pytest.mark.parametrize("key", list(an_epoch().row()))
def test_a_needed_column_that_is_missing_is_named(key):
    row = an_epoch().row()
    del row[key]
    if key == "loss_ce":  # a term: only their sum is needed
        assert EpochRecord.from_row(row).losses == {"loss": 1 / 3}
        return
    with pytest.raises(ValueError, match=f"no '{key}'"):
        EpochRecord.from_row(row)


@pytest.mark.parametrize(
    ("key", "value"), [("valid_top1", "high"), ("epoch", "0.5"), ("epoch", "nan"), ("lr", True)]
)
def test_a_cell_that_is_no_such_number_is_named(key, value):
    with pytest.raises(ValueError, match=f"'{key}' is {value!r}, not a (whole )?number"):
        EpochRecord.from_row({**an_epoch().row(), key: value})


def test_cells_without_a_column_are_refused():
    text = "epoch,loss\n0,1.0,2.0\n"
    (row,) = csv.DictReader(io.StringIO(text))
    with pytest.raises(ValueError, match="more cells than the header"):
        EpochRecord.from_row(row)


@pytest.mark.parametrize(
    "record",
    [a_matching(4), a_result(), a_result(test_top1=None, test_top5=None, teacher_top1=90.0)],
    ids=["matching", "result", "result without test"],
)
def test_a_record_goes_through_json(record):
    assert type(record).from_plain(json.loads(json.dumps(record.to_plain()))) == record


def test_what_a_later_version_adds_is_ignored():
    plain = a_matching().to_plain()
    plain["points"][0]["colour"] = "red"
    assert MatchingRecord.from_plain({**plain, "colour": "red"}) == a_matching()
    assert RunResult.from_plain({**a_result().to_plain(), "colour": "red"}) == a_result()
    assert EpochRecord.from_row({**an_epoch().row(), "colour": "red"}) == an_epoch()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"first_cost": None}, "no 'first_cost'"),
        ({"teacher": 3}, "'teacher' is 3, not a text"),
        ({"images": 0.5}, "'images' is 0.5, not a whole number"),
        ({"churn": [1]}, r"'churn' is \[1\], not a number"),
        ({"matching": [1, 2]}, "'matching' is no list of lists of channels"),
        ({"matching": [["a"]]}, "'matching' is no list of lists of channels"),
        ({"matching": [[1], [1, 2]]}, "'matching' has groups of different sizes"),
        ({"matching": []}, "'matching' has groups of different sizes, or none"),
    ],
)
def test_a_point_that_is_none_is_refused(change, said):
    plain = a_matching().to_plain()
    plain["points"][0].update(change)
    with pytest.raises(ValueError, match=said):
        MatchingRecord.from_plain(plain)


@pytest.mark.parametrize("points", [None, {}, [1]], ids=str)
def test_points_that_are_no_list_of_points_are_refused(points):
    with pytest.raises(ValueError, match="'points'"):
        MatchingRecord.from_plain({"epoch": 0, "points": points})
