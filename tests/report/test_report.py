"""Reports from run folders: the page stands alone, shows what there is, and text stays text."""

import base64
import hashlib
import re
from dataclasses import replace

import pytest
from reported import (
    COLUMNS,
    OTHERS,
    POINT,
    SCRIPT,
    make_run,
    read_page,
    wide_point,
)

from mgd.errors import InputError
from mgd.report import write_report
from mgd.runfolder import EpochRecord, Evaluation, MeasuredNetwork, RunFolder, read_run

BOTH = (("loss", 3.0), ("loss_ce", 2.0), ("loss_mgd_1", 1.0))


@pytest.fixture
def page(tmp_path):
    """Writes a report and reads it."""

    def write(runs, title="Title", **others):
        write_report(runs, tmp_path / "report.html", title, **others)
        return read_page(tmp_path / "report.html")

    return write


@pytest.fixture
def two(tmp_path):
    alone = make_run(tmp_path, "alone", 80.0)
    return [alone, make_run(tmp_path, "mgd", 90.0, "mgd", 98.0, [POINT], losses=BOTH)]


def test_the_page_fetches_nothing(page, two):
    read = page(two)
    assert read.sources
    assert all(source.startswith("#") for source in read.sources)
    assert not re.search(r"url\((?!#)|@import|https?:|\bsrc\s*=", read.text)
    (policy,) = (v["content"] for _, v in read.elements if v.get("http-equiv"))
    assert policy.startswith("default-src 'none'")


def test_the_one_script_is_the_one_that_the_policy_lets_run(page, two):
    read = page(two)
    (script,) = re.findall(r"<script>(.*?)</script>", read.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in read.text


def test_every_link_leads_to_a_part_and_every_id_is_there_once(page, two):
    read = page([*two, make_run(two[0].folder.parent, "rd", 91.0, "mgd", 98.0, [POINT])])
    identities = read.ids()
    assert len(set(identities)) == len(identities)
    assert {source[1:] for source in read.sources} <= set(identities)
    referenced = set(re.findall(r"url\(#([^)]+)\)", read.text))
    assert referenced
    assert referenced <= set(identities)


def test_every_picture_has_a_label_and_is_coloured_by_the_theme(page, two):
    read = page(two)
    pictures = [v for tag, v in read.elements if tag == "svg" and v.get("aria-hidden") != "true"]
    assert len(pictures) == 2 + 1 + 1 + 1 + 1  # rows, accuracy, losses, course, a point
    assert all(v["role"] == "img" and v["aria-label"] for v in pictures)
    bodies = re.findall(r"<svg.*?</svg>", read.text, re.DOTALL)
    assert all("<title>" in body for body in bodies if "aria-hidden" not in body)
    assert not re.search(r"#[0-9a-f]{6}\b", "".join(bodies))
    variables = set(re.findall(r"var\((--\w+)\)", "".join(bodies)))
    assert {"--ink", "--line", "--soft"} < variables
    assert all(read.text.count(f"{name}: #") == 3 for name in variables)  # light, dark twice
    assert "validation accuracy, %" in read.texts  # text, and no paths


def test_the_parts_are_those_that_have_data(page, two):
    read = page(two)
    headings = [text for tag, text in re.findall(r"<(h2)>(.*?)</h2>", read.text)]
    assert headings == [
        *("Methods", "Learning curves", "Terms of the loss", "Course of the matching"),
        *("Matchings", "How the runs were made"),
    ]
    read = page(two[:1])
    headings = [text for tag, text in re.findall(r"<(h2)>(.*?)</h2>", read.text)]
    assert headings == ["Methods", "Learning curves", "How the runs were made"]


def test_the_headline_says_what_was_gained(page, tmp_path):
    teacher = make_run(tmp_path, "teacher", 98.0, arch="big")
    runs = [make_run(tmp_path, f"alone{i}", a, seed=i) for i, a in enumerate((80.0, 82.0, 84.0))]
    for i, accuracy in enumerate((89.0, 90.0, 91.0)):
        options = {"seed": i, "teacher": "big", "teacher-resume": "x/teacher/student.safetensors"}
        runs.append(make_run(tmp_path, f"mgd{i}", accuracy, "mgd", 98.0, **options))
    teacher = replace(teacher, result=replace(teacher.result, trained_parameters=2 * 1234567))
    text = page([teacher, *runs]).text
    headline = re.sub("<.*?>", "", re.search(r'<p class="headline">(.*?)</p>', text)[1])
    assert headline.replace("\xa0", " ") == (
        "mgd0, mgd1, mgd2 reaches 90.0 ± 1.0 % over 3 runs on the test images, against 82.0 % of "
        "the student alone and 98.0 % of the teacher: 50 % of the gap is recovered. It has "
        "1 234 567 trained parameters, 2.0 times fewer than its teacher (2 469 134)."
    )


@pytest.mark.parametrize(("gains", "is_told"), [((5.0, 6.0, 7.0), False), ((-2.0, 1.0, 4.0), True)])
def test_the_headline_says_where_the_gain_may_be_chance(page, tmp_path, gains, is_told):
    runs = [make_run(tmp_path, f"alone{i}", 80.0, seed=i) for i in range(3)]
    for i, gain in enumerate(gains):
        runs.append(make_run(tmp_path, f"mgd{i}", 80.0 + gain, "mgd", 98.0, seed=i))
    (headline,) = re.findall(r'<p class="headline">(.*?)</p>', page(runs).text)
    told = (
        "The difference from the student alone, +1.0 ± 1.7 points, may be chance: 3 pairs of runs"
    )
    assert (told in headline) == is_told
    assert ("may be chance" in headline) == is_told


def test_a_gap_that_says_nothing_is_a_dash_with_its_reason(page, tmp_path):
    runs = [
        make_run(tmp_path, "alone", 80.0),
        make_run(tmp_path, "kd", 85.0, "kd", teacher_top1=80.5),
    ]
    read = page(runs)
    (reason,) = (v["title"] for t, v in read.elements if t == "td" and "title" in v)
    assert reason == (
        "the teacher has 80.5 %, the student alone 80.0 %: a gap of 0.5 points is too small to be "
        "shared out (less than 1)"
    )
    assert f'title="{reason}">–</td>' in read.text
    assert "too small to be shared out" in re.search(r'class="headline">(.*?)</p>', read.text)[1]


def test_a_difference_has_its_error_and_its_pairs(page, tmp_path):
    runs = [make_run(tmp_path, f"a{i}", a, seed=i) for i, a in enumerate((80.0, 82.0, 70.0))]
    runs += [make_run(tmp_path, f"k{i}", a, "kd", 98.0, seed=i) for i, a in enumerate((83.0, 87.0))]
    assert 'title="2 pairs of runs with the same seed">+4.0 ± 1.0</td>' in page(runs).text


def test_an_unfinished_run_has_curves_and_no_row(page, tmp_path):
    read = page([make_run(tmp_path, "going")])
    assert "Not ended yet: going." in read.texts
    assert 'id="methods"' not in read.text
    assert 'id="curves"' in read.text
    assert "headline" not in re.sub("<style>.*?</style>", "", read.text, flags=re.DOTALL)
    assert "not ended" in read.texts


def test_a_run_without_an_epoch_has_a_page(page, tmp_path):
    read = page([make_run(tmp_path, "new", epochs=())])
    assert "svg" not in read.tags
    assert "Not ended yet: new." in read.texts


def test_a_page_of_nothing_but_an_evaluation(page, tmp_path):
    network = MeasuredNetwork(
        role=SCRIPT, arch="net", weights="w", sha256="", view="8 px", top1=50.0, top5=90.0,
        loss=1.0, images=10,
    )  # fmt: skip
    read = page([], evaluations=[Evaluation(folder=tmp_path, data="d", networks=[network])])
    assert f"{SCRIPT}: net" in "".join(read.texts)
    assert {"50.00", "90.00", "1.0000", "10 of d"} < set(read.texts)


def test_a_single_epoch_is_drawn(page, tmp_path):
    run = make_run(tmp_path, "one", 70.0, "mgd", 90.0, [POINT], epochs=(50.0,), losses=BOTH)
    read = page([run])
    assert {"curves", "losses", "course", "matchings"} < set(read.ids())


def test_names_are_text_whatever_is_in_them(page, tmp_path):
    point = replace(POINT, teacher=SCRIPT, student="<img src=x onerror=alert(1)>")
    names = ["<script>alert(1)", '"><img src=x onerror=alert(1)>', "a & b $x_1$", "']]>&lt;svg>"]
    runs = [make_run(tmp_path, name, 70.0, "mgd", 90.0, [point], losses=BOTH) for name in names]
    runs[0].options["points"] = [SCRIPT]
    read = page(runs, f"Runs: {SCRIPT}", notes=[SCRIPT])
    assert read.tags.count("script") == 1
    assert "img" not in read.tags
    assert not {"alert(1)", "alert(1)</script>"} & set(read.texts)
    for name in names:
        assert f"Matching of {name}" in "".join(read.texts)
        assert any(name in v.get("aria-label", "") for tag, v in read.elements if tag == "svg")


def test_names_that_no_file_can_hold_are_shown_with_marks(page, tmp_path):
    run = make_run(tmp_path, "plain", 70.0, "mgd", 90.0)
    for name in ("bell\x07 and\nline", "half\udcff", "\u65e5\u672c", "left\u202eright"):
        named = replace(run, folder=tmp_path / name)
        text = page([named]).text
        assert re.sub(r"[\x07\n\udcff\u202e]", "\N{REPLACEMENT CHARACTER}", name) in text


def test_values_that_are_not_finite_leave_a_page(page, tmp_path):
    losses = (("loss", float("nan")), ("loss_ce", float("inf")), ("loss_mgd_1", float("nan")))
    run = make_run(tmp_path, "burst", float("nan"), "mgd", 90.0, losses=losses)
    assert "losses" not in page([run]).ids()
    run = make_run(tmp_path, "burst2", 50.0, "mgd", 90.0, epochs=(float("nan"), 20.0))
    assert "curves" in page([run]).ids()


def test_thirty_runs_of_many_epochs_and_channels_stay_small(page, tmp_path):
    points = [wide_point(seed=seed) for seed in range(4)]
    epochs = [50 + epoch / 10 for epoch in range(200)]
    runs = []
    for number in range(30):
        name = f"method{number}"
        run = make_run(tmp_path, name, 80.0, "mgd", 90.0, points, (50.0,), BOTH, seed=0, lr=number)
        records = [replace(run.epochs[0], epoch=i, valid_top1=v) for i, v in enumerate(epochs)]
        runs.append(replace(run, epochs=records))
    read = page(runs)
    assert read.text.count('class="strip"') == 30
    assert 100_000 < len(read.text.encode()) < 5_000_000


def test_the_curves_of_unequal_runs_end_with_the_shortest(page, tmp_path):
    short, long = make_run(tmp_path, "a-seed0", 70.0), make_run(tmp_path, "a-seed1", 70.0)
    folder = RunFolder(long.folder, long.options, COLUMNS)
    record = EpochRecord(epoch=2, valid_top1=70.0, losses={"loss": 1.0}, **OTHERS)
    folder.add_epoch(record)
    folder.close()
    read = page([short, read_run(long.folder)])
    assert "a: 60.5 % at epoch 2" in read.texts


def test_a_resumed_run_says_what_changed(page, tmp_path):
    run = make_run(tmp_path, "run", 70.0, lr=0.1)
    folder = RunFolder(run.folder, {**run.options, "lr": 0.2}, COLUMNS)
    folder.go_on(1, 5, run.options)
    folder.close()
    read = page([read_run(run.folder)])
    told = "Resumed with other options in epoch 2, after 5 steps: lr 0.1 → 0.2"
    assert told in read.texts


def test_the_options_that_differ_are_a_table(page, tmp_path):
    runs = [make_run(tmp_path, "a", 70.0, lr=0.1), make_run(tmp_path, "b", 70.0, lr=0.2)]
    table = page(runs).text.partition('aria-label="Options that differ between the runs"')[2]
    head = table.partition("</thead>")[0]
    assert re.findall(r'<th scope="col">(.*?)</th>', head) == ["run", "lr"]


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(InputError, match=r"'.*nothing' is no run folder"):
        read_run(tmp_path / "nothing")
