"""Evidence: the page says what the rows say, and the rows are those of the matrix."""

import json
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
from benchmarks.evidence import runner
from benchmarks.evidence.data import out_of_reach, prepare
from benchmarks.evidence.page import (
    COMMANDS,
    PAGE,
    all_commands,
    as_run,
    fill_page,
    paired,
    spread,
    with_error,
)
from benchmarks.evidence.plan import TIERS, chosen, plan, read_matrix
from benchmarks.evidence.runner import in_present_names, read_results, row_key, run_all
from PIL import Image

from mgd import DistillationPoint
from mgd.report import summarize
from pages import ROOT
from shell import parsed

MATRIX = read_matrix()
GIVEN = {entry["file"] for entry in MATRIX["weights"].values()}
ROWS = read_results()


def test_both_pages_are_what_the_rows_say():
    text, hint = PAGE.read_text(), "run `make evidence` to write the tables anew"
    assert fill_page(text, ROWS, MATRIX) == text, hint
    assert all_commands(ROWS, MATRIX) == COMMANDS.read_text(), hint


def test_each_method_in_the_tables_has_its_command_behind_a_link():
    sections = dict(re.findall(r"^## (\S+)$(.*?)^```$", COMMANDS.read_text(), flags=re.S | re.M))
    links = re.findall(r"\(evidence-commands\.md#(\S+?)\)", PAGE.read_text())
    assert links
    assert sorted(links) == sorted(sections)
    for name, section in sections.items():
        methods = {row["method"] for row in ROWS if row["experiment"] == name}
        commands = [line for line in section.splitlines() if line.startswith("mgd ")]
        assert len(commands) == len(methods)
        assert set(commands) <= {row["command"] for row in ROWS if row["experiment"] == name}


def test_old_names_of_flags_and_methods_are_read_as_the_new_ones():
    old = "mgd distill digits --loss-worth 3 --experiment 'MGD amp, worth 3-seed0'"
    new = "mgd distill digits --feature-weight 3 --experiment 'MGD amp, feature weight 3-seed0'"
    assert in_present_names(old) == new
    assert in_present_names(new) == new


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            "mgd --mgd-with-kd 1 --wd 0.1",
            "mgd --mgd-with-kd 1 --kd-weight 1 --ce-weight 1 --wd 0.1",
        ),
        (
            "mgd --mgd-with-kd 1 --kd-temperature 4 --wd 0.1",
            "mgd --mgd-with-kd 1 --kd-temperature 4 --kd-weight 1 --ce-weight 1 --wd 0.1",
        ),
    ],
)
def test_logits_without_a_weight_are_read_at_the_weight_of_the_time(old, new):
    lines = f"{old}\nmgd --mgd-with-kd 1 --kd-weight 0.5\nmgd --mgd-with-kd 0"
    assert in_present_names(lines) == lines.replace(old, new)
    assert in_present_names(new) == new


def figure_of(experiment, method):
    mine = [row for row in ROWS if (row["experiment"], row["method"]) == (experiment, method)]
    return spread([row["result"]["test_top1"] for row in mine])


@pytest.mark.parametrize("page", ["README.md", "docs/faq.md"])
@pytest.mark.parametrize(
    ("experiment", "kd"),
    [("cifar10-unlabelled", "KD T 4"), ("cifar10-scratch", "KD"), ("grocery-unlabelled", "KD T 4")],
)
def test_the_tables_on_other_pages_have_the_figures_of_the_rows(page, experiment, kd):
    cells = [figure_of(experiment, method) for method in ("student alone", kd, "MGD amp")]
    assert f" | {' | '.join(cells)} | " in (ROOT / page).read_text().replace("**", "")


OWN = {
    "cifar10": ("student alone", "FitNet, 20", "KD", "OFD, 60", "MGD amp, 40", "MGD adapter, 60",
                "MGD adapter, 60 + KD, each half"),
    "grocery": ("student alone", "FitNet, 20", "KD", "OFD, 30", "MGD amp, 20", "MGD adapter, 30",
                "MGD adapter, 30 + KD, each whole"),
    "digits": ("student alone", "FitNet, 0.1", "KD", "OFD, 10", "MGD amp", "MGD adapter",
               "MGD adapter + KD"),
    "digits-pretrained": ("student alone", "FitNet, 0.1", "KD", "OFD, 10", "MGD amp, 3",
                          "MGD adapter", "MGD adapter + KD"),
}  # fmt: skip
"""Methods of the README's table, of `NAME-own`, or of `NAME-kd` where that has none."""


@pytest.mark.parametrize("name", OWN)
def test_the_methods_at_their_own_weights_have_the_figures_of_the_rows(name):
    run = {(row["experiment"], row["method"]) for row in ROWS}
    own, kd = f"{name}-own", f"{name}-kd"
    where = {method: own if (own, method) in run else kd for method in OWN[name]}
    cells = " | ".join(figure_of(where[method], method) for method in where)
    assert f" | {cells} |" in (ROOT / "README.md").read_text().replace("**", "")


@pytest.mark.parametrize("method", ["student alone", "random fixed", "MGD amp"])
def test_the_text_of_the_readme_has_the_figures_of_the_rows(method):
    text = " ".join((ROOT / "README.md").read_text().split())
    assert f"{figure_of('cifar10-pretrained', method)} %" in text


def test_every_row_was_made_by_the_matrix_as_it_is():
    commands = {job.key: set() for job in plan(MATRIX)}
    for job in [*plan(MATRIX), *plan(MATRIX, GIVEN)]:
        commands[job.key].add(job.command)
    for row in ROWS:
        assert row["command"] in commands.get(row_key(row), ()), row["command"]


def test_every_own_loss_of_the_matrix_is_a_point():
    methods = [own for group in MATRIX["experiments"].values() for own in group["methods"].values()]
    names = {name for own in methods if ":" in (name := own.get("distiller", ""))}
    assert names
    for name in names:
        module, _, attribute = name.partition(":")
        assert issubclass(getattr(import_module(module), attribute), DistillationPoint)


def test_a_changed_figure_is_seen():
    text = PAGE.read_text()
    row = next(row for row in ROWS if row["experiment"] == "digits-scan")
    changed = {**row, "result": {**row["result"], "valid_top1": 1.0}}
    rows = [changed if other is row else other for other in ROWS]
    assert fill_page(text, rows, MATRIX) != text


def test_a_changed_command_is_seen():
    rows = [{**row, "command": f"{row['command']} --epochs 1"} for row in ROWS]
    assert all_commands(rows, MATRIX) != COMMANDS.read_text()


def test_an_experiment_without_a_place_is_an_error():
    text = re.sub(r"<!-- digits-scan -->\n.*?<!-- end -->", "", PAGE.read_text(), flags=re.S)
    with pytest.raises(ValueError, match="differ in digits-scan"):
        fill_page(text, ROWS, MATRIX)


@pytest.mark.parametrize("weights", [(), GIVEN], ids=["nothing given", "weights given"])
def test_every_command_line_is_one(weights):
    jobs = plan(MATRIX, weights)
    assert len({job.key for job in jobs}) == len(jobs)
    keys = {job.key for job in jobs}
    for job in jobs:
        assert keys.issuperset(job.needs)
        program, command, *words = shlex.split(job.command)
        assert program == "mgd"
        assert command.removesuffix("-detector") in ("train", "distill")
        config = parsed([command, *words])
        assert (config.distillation.distiller == "none") == command.startswith("train")
        assert config.schedule.seed == job.seed


def test_tiers_hold_the_lower_ones():
    jobs = plan(MATRIX)
    sizes = [len(chosen(jobs, tier, "", ())) for tier in TIERS]
    assert 0 < sizes[0] < sizes[1] < sizes[2] == len(jobs)


def test_a_method_may_have_seeds_of_its_own():
    jobs = [job for job in plan(MATRIX) if job.experiment == "cifar10-scratch"]
    seeds = {
        name: [job.seed for job in jobs if job.method == name] for name in ("KD", "student alone")
    }
    assert seeds == {"KD": [0, 1, 2], "student alone": [0, 1, 2, 3, 4, 5]}
    assert not any("--seeds" in job.words for job in plan(MATRIX))
    # What starts from such a run starts from that of its own seed.
    needs = {job.seed: job.needs[0][2] for job in plan(MATRIX) if job.experiment == "grocery-own"}
    assert needs == {seed: seed for seed in range(6)}


def test_what_is_needed_is_run_before_of_whatever_tier_and_what_is_done_is_not():
    jobs = chosen(plan(MATRIX), "cpu", "cifar10-scratch/MGD amp$", ())
    assert [job.experiment for job in jobs] == ["cifar10-teachers"] + 3 * ["cifar10-scratch"]
    done = {jobs[0].key, jobs[1].key}
    jobs = chosen(plan(MATRIX), "cpu", "cifar10-scratch/MGD amp$", done, present=done)
    assert [job.seed for job in jobs] == [1, 2]
    given = chosen(plan(MATRIX, GIVEN), "cpu", "cifar10-scratch/MGD amp$", ())
    assert {job.experiment for job in given} == {"cifar10-scratch"}


def test_what_has_a_row_but_no_files_is_made_again_where_it_is_needed():
    """As in a fresh clone, which has the rows and none of the run folders."""
    jobs = plan(MATRIX)
    teacher = next(job.key for job in jobs if job.experiment == "digits-teacher")
    found = chosen(jobs, "small", "digits-scratch/MGD amp$", done={teacher})
    assert [job.experiment for job in found] == ["digits-teacher"] + 5 * ["digits-scratch"]
    assert chosen(jobs, "small", "digits-teacher", done={teacher}) == []


def test_what_is_to_run_again_loses_its_row_and_its_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(runner, "RESULTS", tmp_path / "results.jsonl")
    ours, other = [job for job in plan(MATRIX) if job.experiment == "digits-scratch"][:2]
    rows = [dict(zip(("experiment", "method", "seed"), j.key, strict=True)) for j in (ours, other)]
    runner.RESULTS.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for job in (ours, other):
        (tmp_path / job.folder).mkdir(parents=True)
    runner.forget([ours], tmp_path)
    assert [row_key(row) for row in read_results()] == [other.key]
    assert not (tmp_path / ours.folder).exists()
    assert (tmp_path / other.folder).exists()


def test_what_is_not_given_and_cannot_be_fetched_is_out_of_reach():
    assert out_of_reach(MATRIX, {"grocery": None, "cifar10": None}) == {"grocery", "bccd"}
    assert out_of_reach(MATRIX, {"grocery": "folder", "bccd": "folder"}) == set()


def test_cifar10_is_fetched_by_torchvision_and_written_as_files(monkeypatch, tmp_path):
    class Fetched:
        classes = ("cat", "dog")

        def __init__(self, root, train, download):
            assert download
            Path(root).mkdir(parents=True, exist_ok=True)
            self.images = [(Image.new("RGB", (32, 32)), label) for label in (0, 1, 1)]

        def __iter__(self):
            return iter(self.images)

    monkeypatch.setattr("benchmarks.evidence.data.CIFAR10", Fetched)
    folder = prepare(MATRIX, {"$CIFAR10"}, {"cifar10": None}, tmp_path)["CIFAR10"]
    assert [path.name for path in sorted((folder / "train" / "dog").iterdir())] == [
        "00001.png",
        "00002.png",
    ]
    assert {path.name for path in folder.iterdir()} == {"train", "valid"}


def test_a_part_of_the_digits_is_made_once(tmp_path):
    names = {"$DIGITS_5"}
    folders = prepare(MATRIX, names, {}, tmp_path)
    assert prepare(MATRIX, names, {}, tmp_path) == folders
    classes = sorted(path.name for path in (folders["DIGITS_5"] / "train").iterdir())
    assert classes == ["0", "1", "2", "3", "4"]
    assert len(list((folders["DIGITS_5"] / "train" / "0").glob("*.png"))) > 50


def test_few_labels_leave_the_other_images_without_any(tmp_path):
    for part, number in (("train", 5), ("valid", 2)):
        for name in ("cat", "dog"):
            (tmp_path / "whole" / part / name).mkdir(parents=True)
            for index in range(number):
                (tmp_path / "whole" / part / name / f"{index}.png").write_text(f"{name} {index}")
    data = {"of": "pets", "labelled": 2}
    matrix, given = {"experiments": {"few": {"data": data}}}, {"pets": tmp_path / "whole"}
    folders = prepare(matrix, {"$PETS_2_LABELLED"}, given, tmp_path / "made")
    folder = folders["PETS_2_LABELLED"]
    labelled = {name: texts(folder / "train" / name) for name in ("cat", "dog")}
    for name, found in labelled.items():
        assert len(found) == 2
        assert all(text.startswith(name) for text in found)
    others = texts(folder / "unlabelled")
    assert len(others) == 6
    assert not others & set.union(*labelled.values())
    assert len(texts(folder / "valid" / "cat")) == 2
    assert prepare(matrix, {"$PETS_2_LABELLED"}, given, tmp_path / "made") == folders
    assert texts(folder / "unlabelled") == others


def texts(folder):
    return {path.read_text() for path in folder.iterdir()}


def test_flags_of_a_method_take_back_and_name_the_data():
    few = {"of": "pets", "labelled": 2}
    teach = {"unlabelled": "{data}/unlabelled", "channels-last": True}
    methods = {"both": {"distiller": "mgd"}, "labelled": {"distiller": "mgd", "unlabelled": None}}
    experiment = {"tier": "cpu", "data": few, "seeds": [0], "flags": {}, "methods": methods}
    matrix = {"weights": {}, "experiments": {"few": {**experiment, "teach": teach}}}
    both, labelled = (" ".join(job.words) for job in plan(matrix))
    assert "--unlabelled $PETS_2_LABELLED/unlabelled --channels-last --seed 0" in both
    assert "--unlabelled" not in labelled
    assert "--channels-last --seed 0" in labelled


def test_a_failed_run_fails_those_that_need_it(monkeypatch, tmp_path):
    jobs = [job for job in plan(MATRIX) if job.key[2] == 10 and job.experiment.startswith("digits")]
    pretrain = next(job for job in jobs if job.experiment == "digits-pretrain")
    students = [job for job in jobs if pretrain.key in job.needs]
    assert students
    failed = run_all(students, set(), {}, 1)  # what they need is neither done nor planned
    assert len(failed) == len(students)


def test_differences_are_taken_seed_by_seed():
    rows = [
        {"method": method, "seed": seed, "value": value + 10 * seed}
        for method, value in (("a", 3), ("b", 1))
        for seed in (0, 1)
    ]
    differences = paired(rows[:-1], "a", "b", lambda row: row["value"])
    assert differences == [2]
    assert paired(rows, "a", "b", lambda row: row["value"]) == [2, 2]


def test_spread_and_error_of_known_values():
    assert spread([1.0, 3.0]) == "2.0 ± 1.4"
    assert spread([1.0]) == "1.0"
    assert with_error([1.0, 3.0]) == "+2.0 ± 1.0"
    assert with_error([-1.0]) == "-1.0"


def test_rows_are_read_as_run_folders_are():
    rows = [row for row in ROWS if row["experiment"] == "digits-scan"]
    groups = [summary.group for summary in summarize([as_run(row) for row in rows])]
    assert groups == list(dict.fromkeys(row["method"] for row in rows))
