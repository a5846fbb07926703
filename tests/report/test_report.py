"""Reports from run folders: right numbers, text that stays text, a page that stands alone."""

import base64
import json
import re
import statistics
from html.parser import HTMLParser

import pytest
import yaml

from mgd.errors import InputError
from mgd.report import HEADINGS, read_run, summarize, write_report

SCRIPT = "<script>alert(1)</script>"


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
    """Writes a run folder by hand, unfinished without an accuracy."""
    folder = root / name
    folder.mkdir(parents=True)
    options = {"arch": "net", "data": "digits", "size": 8, "train-images": 100, **options}
    (folder / "args.yaml").write_text(yaml.safe_dump({"distiller": distiller, **options}))
    (folder / "summary.csv").write_text("epoch,valid_top1\n0,50.0\n1,60.5\n")
    if accuracy is not None:
        result = {"test_top1": accuracy, "valid_top1": 99.0, "teacher_top1": teacher}
        result |= {"trained_parameters": 1234567, "seconds": 2.5}
        (folder / "result.json").write_text(json.dumps(result))
    if points:
        (folder / "matching.json").write_text(json.dumps({"epoch": 1, "points": list(points)}))
    return read_run(folder)


POINT = {
    "teacher": "relu$1",
    "student": "relu$2",
    "teacher_channels": 4,
    "first_cost": 1.5,
    "cost_after": 0.5,
    "matching": [[0, 3], [1, 2]],
}


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
    run = make_run(tmp_path, "mgd", 90.0, "mgd", 98.0, [POINT, {**POINT, "first_cost": 0.5}])
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
    (folder / "summary.csv").write_text("epoch,valid_top1\n")
    write_report([read_run(folder)], tmp_path / "report.html", "New")
    assert "img" not in Reader((tmp_path / "report.html").read_text(encoding="utf-8")).tags


def test_accuracy_is_of_test_where_there_is_one(tmp_path):
    run = make_run(tmp_path, "run", 70.0)
    assert run.accuracy == 70
    result = {**run.result, "test_top1": None}
    (run.folder / "result.json").write_text(json.dumps(result))
    assert read_run(run.folder).accuracy == 99


def test_names_are_text_whatever_is_in_them(tmp_path):
    point = {**POINT, "teacher": SCRIPT, "student": "<img src=x onerror=alert(1)>"}
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
    with (long.folder / "summary.csv").open("a") as file:
        file.write("2,70\n")
    write_report([short, read_run(long.folder)], tmp_path / "report.html", "Two lengths")
    assert (tmp_path / "report.html").stat().st_size > 5000


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(InputError, match=r"'.*nothing' is no run folder"):
        read_run(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("args.yaml", "{"),
        ("args.yaml", "- a list\n"),
        ("args.yaml", "arch: resnet18\n"),
        ("args.yaml", "!!python/object/apply:os.mkdir [obeyed]"),
        ("result.json", "{"),
        ("result.json", "[1]"),
        ("matching.json", "[1]"),
        ("matching.json", b"\xff\xfe"),
        ("summary.csv", b"\xff\xfe\xff"),
    ],
    ids=str,
)
def test_a_broken_file_is_named_in_one_line(tmp_path, monkeypatch, name, content):
    monkeypatch.chdir(tmp_path)
    folder = make_run(tmp_path, "run", 70.0, "mgd", 90.0, [POINT]).folder
    content = content if isinstance(content, bytes) else content.encode()
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=r"run folder '.*run' cannot be read") as caught:
        read_run(folder)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "obeyed").exists()
