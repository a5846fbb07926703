"""`mgd compare`: runs, files and names in one table, with the teachers of the runs."""

import csv
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

import mgd
from mgd.cli.compare_table import comparison_lines
from mgd.engine.loop.checkpoint import save_weights
from mgd.runfolder import ComparedNetwork, Comparison, Cost, Latency, RunFolder, RunResult

OPTIONS = {"arch": "cifar_resnet8_x0_5", "data": "photos", "distiller": "none", "size": 8}
OPTIONS |= {"train-images": 0, "teacher": "", "teacher-resume": ""}
RESULT = {"best_epoch": 0, "valid_top1": 70.0, "valid_top5": 90.0, "trained_parameters": 1}


@pytest.fixture
def make(here):
    """Makes a run folder below `runs` without any training; an accuracy ends it."""

    def call(name, accuracy=None, teacher_top1=None, has_weights=True, agreement=None, **options):
        values = {**OPTIONS, **{key.replace("_", "-"): value for key, value in options.items()}}
        folder = RunFolder(here / "runs" / name, values)
        if has_weights:
            metadata = mgd.Metadata(
                arch=values["arch"], classes=("a", "b", "c"), view=mgd.View(size=8)
            )
            network = mgd.create_model(values["arch"], 3)
            save_weights(network, folder.path / "student.safetensors", metadata)
        if accuracy is not None:
            tested = {"test_top1": accuracy} if agreement is None else {"valid_is_agreement": 1}
            result = {**RESULT, **tested, "teacher_top1": teacher_top1, "seconds": 1.0}
            folder.write_result(RunResult(**result))
        folder.close()
        return Path("runs", name)

    return call


@pytest.fixture
def compared(told, here):
    """Compares, and returns the networks of the JSON file by name."""

    def call(*words):
        told("compare", *words, "--rounds", 1, "-o", "out")
        plain = json.loads(Path("out/comparison.json").read_text())
        return {each["name"]: each for each in plain["networks"]}

    return call


def test_a_run_and_a_name_are_beside_each_other(make, compared):
    found = compared(make("first", 81.5), "cifar_resnet8")
    run, name = found.values()
    assert list(found) == ["first", "cifar_resnet8"]
    assert (run["arch"], run["accuracies"], run["images"]) == (
        "cifar_resnet8_x0_5",
        [81.5],
        "test of photos",
    )
    assert name["accuracies"] == []
    assert [each["cost"]["classes"] for each in found.values()] == [3, 3]
    network = mgd.create_model("cifar_resnet8", 3)
    assert name["cost"]["parameters"] == sum(each.numel() for each in network.parameters())
    size = Path("runs/first/student.safetensors").stat().st_size
    assert run["cost"]["file_bytes"] == size
    assert [each["cost"]["size"] for each in found.values()] == [8, 32]
    for each in found.values():
        assert [latency["batch"] for latency in each["cost"]["latencies"]] == [1, 32]
        for latency in each["cost"]["latencies"]:
            assert 0 < latency["low"] <= latency["median"] <= latency["high"]


def test_a_teacher_is_listed_once_with_the_accuracy_that_its_students_measured(make, compared):
    make("big", 99.0, arch="cifar_resnet8")
    taught = {"distiller": "kd", "teacher": "cifar_resnet8", "teacher_top1": 95.5}
    taught["teacher_resume"] = "runs/big/student.safetensors"
    runs = [make("kd", 80.0, **taught), make("mgd", 85.0, **{**taught, "distiller": "mgd"})]
    found = compared(*runs)
    assert list(found) == ["teacher big", "kd", "mgd"]
    assert found["teacher big"]["accuracies"] == [95.5]
    assert [each["is_teacher"] for each in found.values()] == [True, False, False]
    found = compared(*runs, "runs/big")
    assert list(found) == ["kd", "mgd", "big"]
    assert found["big"]["accuracies"] == [95.5]
    assert found["big"]["is_teacher"]


def test_seeds_are_one_network(make, compared):
    runs = [make(f"kd-seed{seed}", 80.0 + seed, seed=seed) for seed in range(3)]
    found = compared(*runs)
    assert list(found) == ["kd"]
    assert found["kd"]["accuracies"] == [80.0, 81.0, 82.0]
    (row,) = csv.DictReader(Path("out/comparison.csv").read_text().splitlines())
    assert (row["top1"], row["top1_sd"], row["runs"]) == ("81.0", "1.0", "3")


def test_a_teacher_that_has_moved_is_found_beside_its_students(make, compared):
    make("big", 99.0, arch="cifar_resnet8")
    taught = {"distiller": "kd", "teacher": "cifar_resnet8"}
    run = make("kd", 80.0, 95.0, teacher_resume="elsewhere/big/student.safetensors", **taught)
    assert compared(run)["teacher big"]["source"] == "runs/big/student.safetensors"
    shutil.rmtree("runs/big")
    found = compared(run)["teacher cifar_resnet8"]
    assert (found["source"], found["accuracies"], found["cost"]["classes"]) == ("", [95.0], 3)


def test_a_teacher_from_another_project_is_the_network_that_the_run_says(make, compared):
    torch.save(mgd.create_model("cifar_resnet8", 3).state_dict(), "foreign.pth")
    taught = {"distiller": "kd", "teacher": "cifar_resnet8", "teacher_resume": "foreign.pth"}
    found = compared(make("kd", 80.0, 95.0, **taught))["teacher foreign.pth"]
    assert (found["arch"], found["accuracies"]) == ("cifar_resnet8", [95.0])
    assert found["cost"]["size"] == OPTIONS["size"]
    found = compared(make("at16", 80.0, 95.0, teacher_size=16, **taught))["teacher foreign.pth"]
    assert found["cost"]["size"] == 16


def test_a_published_teacher_is_built_by_name_and_not_downloaded(make, compared, monkeypatch):
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", None)
    run = make("mgd", 80.0, 92.0, distiller="mgd")  # the default of a run without --teacher
    found = compared(run)["teacher resnet50"]
    assert (found["arch"], found["cost"]["size"], found["cost"]["classes"]) == ("resnet50", 224, 3)


def test_a_teacher_that_is_code_is_not_run_for_a_run(make, compared, caplog):
    Path("mine.py").write_text("raise SystemExit('it ran')")
    run = make("mgd", 80.0, 92.0, distiller="mgd", teacher="mine:net")
    found = compared(run)["teacher mine:net"]
    assert (found["cost"], found["accuracies"]) == (None, [92.0])
    assert "a run does not say which code to run" in caplog.text


def test_agreement_is_marked(make, told):
    lines = told("compare", make("free", 80.0, agreement=1, distiller="kd"), "--rounds", 1)
    assert any("70.0*" in line for line in lines)
    assert "*: agreement with the teacher, since no image has a label" in lines


def test_accuracies_on_different_images_are_told_apart(make, told):
    lines = told("compare", make("a", 80.0), make("b", 70.0, data="other"), "--rounds", 1)
    assert "accuracies on different images say little beside each other:" in lines
    assert {"  a: test of photos", "  b: test of other"} <= {line.rstrip() for line in lines}


def test_a_run_that_goes_on_has_costs_and_no_accuracy(make, told):
    lines = told("compare", make("going"), make("ended", 50.0), "--rounds", 1)
    (line,) = [line for line in lines if line.startswith("going")]
    assert line.split()[-1] == "–"


def test_a_trained_run_and_its_exports_are_the_same_network(run, exported, compared):
    pytest.importorskip("onnxruntime")
    files = [exported / f"net.{kind}" for kind in ("safetensors", "pth", "pt2", "onnx")]
    found = compared(run, *files)
    by_kind = {Path(name).suffix: each["cost"] for name, each in found.items()}
    assert set(by_kind) == {"", ".onnx", ".pt2", ".pth", ".safetensors"}
    operations = {kind: cost["multiply_adds"] for kind, cost in by_kind.items()}
    assert operations.pop(".onnx") is None
    assert len(set(operations.values())) == 1
    for name, each in found.items():
        file = Path(name) if Path(name).is_file() else run / "student.safetensors"
        assert each["cost"]["file_bytes"] == file.stat().st_size
    assert found["first"]["accuracies"][0] > 25


def test_a_file_that_says_nothing_needs_its_network(make, refused, compared):
    network = mgd.create_model("cifar_resnet8", 4)
    torch.save(network.state_dict(), "net.pth")
    assert "does not say which network it is of; name it with --arch" in refused(
        "compare", "net.pth"
    )
    found = compared("net.pth", make("first"), "--arch", "cifar_resnet8")
    assert found["net.pth"]["cost"]["classes"] == 4
    assert found["first"]["arch"] == "cifar_resnet8_x0_5"


def test_a_student_that_is_code_is_run_where_the_command_line_names_it(make, refused, compared):
    Path("mine_to_compare.py").write_text(
        "import mgd\ndef net(num_classes):\n"
        "    return mgd.create_model('cifar_resnet8_x0_25', num_classes)\n"
    )
    run = make("own", 80.0, arch="mine_to_compare:net")
    assert "is of 'mine_to_compare:net', which is code; name it with --arch" in refused(
        "compare", run
    )
    found = compared(run, "--arch", "mine_to_compare:net")["own"]
    network = mgd.create_model("cifar_resnet8_x0_25", 3)
    parameters = sum(each.numel() for each in network.parameters())
    assert (found["arch"], found["cost"]["parameters"]) == ("mine_to_compare:net", parameters)


def test_files_and_pictures_are_written_and_an_earlier_comparison_replaced(make, told):
    run = make("first", 80.0)
    for _ in range(2):
        lines = told("compare", run, "--rounds", 1, "-o", "a/new/folder")
    written = [f"a/new/folder/comparison{end}" for end in (".json", ".csv", ".png", "-dark.png")]
    assert lines[-4:] == written
    assert sorted(map(str, Path("a/new/folder").iterdir())) == sorted(written)


def test_without_an_accuracy_there_is_no_picture(told, here):
    lines = told("compare", "cifar_resnet8", "--rounds", 1, "-o", "out")
    assert lines[-1] == "no picture: no network has an accuracy, which runs alone know"
    assert "Acc@1" not in "\n".join(lines)


def test_the_table_fits_80_columns_of_a_terminal(make, told, terminal, monkeypatch):
    name = "a-long-name-of-a-run-that-no-line-of-a-terminal-holds-beside-its-seven-figures"
    words = [make(name, 80.0), make("colour\x1b[31m", 70.0), "torchvision:mobilenet_v3_small"]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    lines = told("compare", *words, "--rounds", 1)
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in "".join(lines)
    assert lines[1] == f"{name}"[:80]


def test_slow_networks_and_spreads_fit_as_well():
    latencies = tuple(
        Latency(batch=batch, median=12345.6, low=11111.1, high=22222.2) for batch in (1, 32)
    )
    cost = Cost(
        parameters=25_557_032,
        multiply_adds=125_300_000,
        file_bytes=102_000_000,
        size=224,
        classes=10,
        latencies=latencies,
    )
    network = ComparedNetwork(
        name="n", arch="", source="", is_teacher=False, cost=cost, accuracies=(80.0, 91.0)
    )
    comparison = Comparison(networks=[network], device="cpu", threads=1, rounds=1, torch="2")
    lines = list(comparison_lines(comparison, 80))
    assert max(map(len, lines)) <= 80
    assert lines[1] == "n (2 runs)"
    figures = ["25.6", "M", "125", "M", "102", "MB", "224", "12346", "(11111–22222)"]
    assert lines[2].split() == [*figures, "12346", "(11111–22222)", "85.5", "±", "7.8"]


def test_a_pipe_has_a_line_for_each_network(make, told):
    lines = told("compare", make("first", 80.0), "cifar_resnet8", "--rounds", 1)
    headings, first, second, empty, *notes = lines
    assert headings.split()[:4] == ["params", "mult-adds", "file", "px"]
    assert first.startswith("first (cifar_resnet8_x0_5) ")
    assert second.startswith("cifar_resnet8 ")
    assert empty == ""
    assert max(map(len, notes)) <= 80


def test_threads_are_told_and_given_back(told, here):
    before = torch.get_num_threads()
    lines = told("compare", "cifar_resnet8", "--rounds", 1, "--threads", before + 1)
    assert f"on cpu with {before + 1} threads" in " ".join(" ".join(lines).split())
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("nope", "unknown network 'nope'"),
        ("torchvision:nope", "torchvision has no classifier 'nope'"),
        ("no/such/run", "'no/such/run' does not exist; give a run folder, a file or a network"),
        ("none.safetensors", "'none.safetensors' does not exist"),
        ("empty", "'empty' is a folder, but no run folder"),
        ("runs/begun", "'runs/begun' has no weights yet, since none of its epochs has ended"),
        ("runs/report.html", "no network; give run folders, files or names"),
        ("note.pth", "'note.pth' is damaged or no file of weights"),
        ("cifar_resnet8 --threads 0", "--threads 0 must be at least 1"),
        ("cifar_resnet8 --rounds 0", "--rounds 0 must be at least 1"),
        ("cifar_resnet8 --classes -1", "--classes -1 must be at least 1"),
        ("cifar_resnet8 --device tpu", "--device tpu is unknown; give cpu, cuda or cuda:N"),
        ("cifar_resnet8 --device cuda:99", "--device cuda:99 is not there: PyTorch sees"),
        ("cifar_resnet8 -o note.pth", "--output note.pth cannot be made"),
        ("cifar_resnet8 --fly 1", "unrecognized arguments: --fly 1"),
        ("", "the following arguments are required: RUN|FILE|NAME"),
    ],
)
def test_what_cannot_be_compared_is_one_line(make, refused, words, reason):
    make("begun", has_weights=False)
    Path("empty").mkdir()
    Path("note.pth").write_text("hello\n")
    Path("runs/report.html").write_text("")
    assert reason in refused("compare", *words.split())


def test_an_evaluation_is_no_network(here, refused):
    Path("evaluated").mkdir()
    Path("evaluated/evaluation.json").write_text("{}")
    assert "holds what an evaluation found, and no network" in refused("compare", "evaluated")


def test_a_network_that_cannot_be_had_has_dashes():
    values = {"arch": "", "source": "", "is_teacher": True, "cost": None}
    network = ComparedNetwork(name="teacher", accuracies=(90.0,), **values)
    comparison = Comparison(networks=[network], device="cpu", threads=1, rounds=1, torch="2")
    lines = list(comparison_lines(comparison))
    assert lines[1].split() == ["teacher", *"––––", "90.0"]
