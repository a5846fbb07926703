"""Reading: whatever is in a run folder, a run or one `InputError` comes out."""

import json

import pytest

from mgd.errors import InputError
from mgd.runfolder import RunFolder, read_epochs, read_matching, read_result, read_run
from recorded import COLUMNS, OPTIONS, a_matching, a_result, an_epoch


@pytest.fixture
def folder(tmp_path):
    """The folder of a finished run."""
    writer = RunFolder(tmp_path / "run", OPTIONS, COLUMNS)
    writer.add_epoch(an_epoch())
    writer.write_matching(a_matching())
    writer.write_result(a_result())
    writer.close()
    return writer.path


def test_what_is_no_run_folder_is_refused(folder):
    (folder / "args.yaml").unlink()
    with pytest.raises(InputError, match=r"is no run folder \(no args.yaml\); give one below"):
        read_run(folder)


def test_a_run_that_has_not_begun_to_train_has_no_epochs(tmp_path):
    RunFolder(tmp_path / "run", OPTIONS).close()
    run = read_run(tmp_path / "run")
    assert (run.options, run.epochs, run.result) == (OPTIONS, [], None)


def test_a_run_that_goes_on_has_no_result(folder):
    (folder / "result.json").unlink()
    (folder / "matching.json").unlink()
    run = read_run(str(folder))
    assert (run.result, run.accuracy, run.matching, run.points) == (None, None, None, [])
    assert run.epochs == [an_epoch()]


def test_a_folder_without_files_has_no_records(tmp_path):
    found = read_epochs(tmp_path), read_matching(tmp_path), read_result(tmp_path)
    assert found == ([], None, None)


def test_accuracy_is_of_valid_where_there_is_no_test(folder):
    assert read_run(folder).accuracy == 70.0
    plain = a_result(test_top1=None).to_plain()
    (folder / "result.json").write_text(json.dumps(plain))
    assert read_run(folder).accuracy == 99.0


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("args.yaml", "{", "while parsing"),
        ("args.yaml", "- a list\n", "it holds no options"),
        ("args-until-epoch-1-step-0.yaml", "{", "while parsing"),
        ("args-until-epoch-1-step-0.yaml", "arch: resnet18\n", "no 'data'"),
        ("args.yaml", "arch: resnet18\n", "no 'data'"),
        ("args.yaml", "!!python/object/apply:os.mkdir [obeyed]", "could not determine"),
        ("result.json", "{", "Expecting"),
        ("result.json", "[1]", "it holds no names with values"),
        ("result.json", "{}", "no 'best_epoch'"),
        ("result.json", "[" * 100_000, "recursion"),
        ("matching.json", "[1]", "it holds no names with values"),
        ("matching.json", '{"epoch": 1, "points": [{}]}', "no 'teacher'"),
        ("matching.json", b"\xff\xfe", "codec can't decode"),
        ("summary.csv", b"\xff\xfe\xff", "codec can't decode"),
        ("summary.csv", "epoch,loss\n0,1.0\n", "no 'lr'"),
        ("summary.csv", "epoch,loss\n0,1.0,2.0\n", "more cells than the header"),
        ("summary.csv", "epoch,loss\n0\n", "no 'loss'"),
        ("summary.csv", f'"{"a" * 200_000}"\n', "field larger than"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_damaged_file_is_one_line_that_names_it(folder, monkeypatch, name, content, reason):
    monkeypatch.chdir(folder.parent)
    content = content if isinstance(content, bytes) else content.encode()
    (folder / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_run(folder)
    said = str(caught.value)
    assert said.startswith(f"run folder '{folder}' cannot be read: {name}: ")
    assert reason in said
    assert "\n" not in said
    assert not (folder.parent / "obeyed").exists()
