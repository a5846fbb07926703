"""Reports from run folders: right numbers, text that stays text, a page that stands alone."""

import base64
import re
import statistics
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from mgd.errors import InputError
from mgd.report import HEADINGS, summarize, write_report
from mgd.runfolder import (
    EpochRecord,
    MatchingRecord,
    PointMatching,
    RunFolder,
    RunResult,
    epoch_columns,
    read_run,
)

SCRIPT = "<script>alert(1)</script>"


COLUMNS = epoch_columns(["loss"], teacher=False, matching=False, skips=False)
OTHERS = dict.fromkeys(set(COLUMNS) - {"epoch", "valid_top1", "loss"}, 1.0)
OTHERS["losses"] = {"loss": 1.0}
RESULT = RunResult(
    best_epoch=1, valid_top1=99.0, valid_top5=100.0, trained_parameters=1234567, seconds=2.5
)
POINT = PointMatching(
    teacher="relu$1",
    student="relu$2",
    teacher_channels=4,
    first_cost=1.5,
    point="relu$1 -> relu$2",
    cost_before=1.0,
    cost_after=0.5,
    churn=0.25,
    dead_channels=0,
    images=40,
    seconds=0.1,
    matching=[[0, 3], [1, 2]],
)


class Reader(HTMLParser):
    """Collects tags, texts and what a page would fetch."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts, self.sources = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data):
        self.texts.append(data)


def make_run(root, name, accuracy=None, distiller="none", teacher=None, points=(), **options):
    """Writes a run folder, unfinished without an accuracy."""
    options = {"arch": "net", "data": "digits", "size": 8, "train-images": 100, **options}
    folder = RunFolder(root / name, {"distiller": distiller, **options}, COLUMNS)
    folder.keep_epochs_before(0)
    for epoch, top1 in enumerate((50.0, 60.5)):
        folder.add_epoch(EpochRecord(epoch=epoch, valid_top1=top1, **OTHERS))
    if accuracy is not None:
        folder.write_result(replace(RESULT, test_top1=accuracy, teacher_top1=teacher))
    if points:
        folder.write_matching(MatchingRecord(epoch=0, points=list(points)))
    folder.close()
    return read_run(folder.path)


def test_the_gap_recovered_is_its_formula(tmp_path):
    alone = [make_run(tmp_path, f"alone-seed{i}", a) for i, a in enumerate((80.0, 82.0, 84.0))]
    taught = [
        make_run(tmp_path, f"mgd-seed{i}", a, "mgd", teacher=98.0)
        for i, a in enumerate((89.0, 90.0, 91.0))
    ]
    first, second = summarize(alone + taught)
    assert (first.group, first.runs, first.accuracy, first.gap_recovered) == ("alone", 3, 82, None)
    assert first.spread == statistics.stdev((80, 82, 84))
    assert second.gap_recovered == pytest.approx((90 - 82) / (98 - 82))
    assert second.cells()[:3] == ("mgd", "90.0 ± 1.0", "+50 %")
    assert second.cells()[3] == "1 234 567"
    assert len(second.cells()) == len(HEADINGS)


def test_a_student_worse_than_alone_has_a_negative_gap(tmp_path):
    runs = [make_run(tmp_path, "alone", 90.0), make_run(tmp_path, "kd", 86.0, "kd", teacher=98.0)]
    assert summarize(runs)[1].cells()[1:3] == ("86.0", "-50 %")


@pytest.mark.parametrize("other", [{"arch": "wide"}, {"data": "cifar"}, {"train-images": 50}])
def test_a_student_alone_of_another_setting_is_no_baseline(tmp_path, other):
    alone = make_run(tmp_path, "alone", 80.0, **other)
    taught = make_run(tmp_path, "mgd", 90.0, "mgd", teacher=98.0)
    assert summarize([alone, taught])[1].gap_recovered is None


def test_a_teacher_no_better_than_the_student_leaves_no_gap(tmp_path):
    runs = [make_run(tmp_path, "alone", 80.0), make_run(tmp_path, "kd", 85.0, "kd", teacher=80.0)]
    assert summarize(runs)[1].gap_recovered is None


def test_costs_are_means_over_points(tmp_path):
    run = make_run(tmp_path, "mgd", 90.0, "mgd", 98.0, [POINT, replace(POINT, first_cost=0.5)])
    assert summarize([run])[0].cost == (1.0, 0.5)


def test_an_unfinished_run_has_curves_and_no_row(tmp_path):
    going = make_run(tmp_path, "going")
    done = make_run(tmp_path, "done", 70.0)
    assert going.accuracy is None
    assert [summary.group for summary in summarize([going, done])] == ["done"]
    write_report([going], tmp_path / "report.html", "One")
    page = Reader((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "table" not in page.tags
    assert page.tags.count("img") == 1


def test_a_run_without_an_epoch_has_a_page(tmp_path):
    folder = make_run(tmp_path, "new").folder
    (folder / "summary.csv").write_text(f"{','.join(COLUMNS)}\n")
    write_report([read_run(folder)], tmp_path / "report.html", "New")
    assert "img" not in Reader((tmp_path / "report.html").read_text(encoding="utf-8")).tags


def test_names_are_text_whatever_is_in_them(tmp_path):
    point = replace(POINT, teacher=SCRIPT, student="<img src=x onerror=alert(1)>")
    names = ["<script>alert(1)", '"><img src=x onerror=alert(1)>', "a & b $x_1$"]
    runs = [make_run(tmp_path, name, 70.0, "mgd", 90.0, [point]) for name in names]
    write_report(runs, tmp_path / "report.html", f"Runs: {SCRIPT}", notes=[SCRIPT])
    page = Reader((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert page.tags.count("img") == 1 + len(runs)
    for name in names:
        assert name in page.texts
        assert f"Matching of {name}" in page.texts


def test_the_page_fetches_nothing_and_its_pictures_are_pictures(tmp_path):
    runs = [
        make_run(tmp_path, "alone", 80.0),
        make_run(tmp_path, "mgd", 90.0, "mgd", 98.0, [POINT]),
    ]
    write_report(runs, tmp_path / "report.html", "Two")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Reader(text)
    assert len(page.sources) == 2
    assert not re.search(r"url\(|@import|https?:", text)
    for source in page.sources:
        head, _, data = source.partition(",")
        assert head == "data:image/png;base64"
        png = base64.b64decode(data, validate=True)
        assert png.startswith(b"\x89PNG")
        assert len(png) > 5000


def test_the_curves_of_unequal_runs_end_with_the_shortest(tmp_path):
    short, long = make_run(tmp_path, "a-seed0", 70.0), make_run(tmp_path, "a-seed1", 70.0)
    folder = RunFolder(long.folder, long.options, COLUMNS)
    folder.add_epoch(EpochRecord(epoch=2, valid_top1=70.0, **OTHERS))
    folder.close()
    write_report([short, read_run(long.folder)], tmp_path / "report.html", "Two lengths")
    assert (tmp_path / "report.html").stat().st_size > 5000


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(InputError, match=r"'.*nothing' is no run folder"):
        read_run(tmp_path / "nothing")
