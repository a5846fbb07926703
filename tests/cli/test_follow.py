"""`mgd report --follow`: a page that is drawn again while its run goes on."""

import re
import threading
import time
from dataclasses import replace

import pytest
import terminals

from mgd.cli import follow, main
from mgd.runfolder import RunFolder, write_whole
from recorded import COLUMNS, OPTIONS, a_result, an_epoch

RESULT = a_result(valid_top1=61.5, test_top1=None, test_top5=None)
FIRST = an_epoch(valid_top1=51.5, seconds=30.0)
REFRESH = re.compile(r'<meta http-equiv="refresh" content="(\d+)">')


@pytest.fixture
def going(here):
    """A run that has begun."""
    folder = RunFolder(here / "runs" / "first", OPTIONS, COLUMNS)
    yield folder
    folder.close()


@pytest.fixture
def pages(monkeypatch, going):
    """Looks at the folder all the time; returns every page that was drawn, in order."""
    monkeypatch.setattr(follow, "EVERY", 0.01)
    drawn = []
    write = follow.follow

    def watched(folders, path, draw):
        def draw_and_keep(reloads):
            runs = draw(reloads)
            drawn.append(path.read_text(encoding="utf-8"))
            return runs

        write(folders, path, draw_and_keep)

    monkeypatch.setattr("mgd.cli.report.follow", watched)
    return drawn


def beside(job):
    """Starts a thread that does a job while the page is followed."""
    thread = threading.Thread(target=job)
    thread.start()
    return thread


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited for a minute"
        time.sleep(0.01)


def test_a_page_is_drawn_with_each_epoch_until_the_run_ends(going, pages, capsys):
    def train():
        until(lambda: len(pages) == 1)
        going.keep_epochs_before(0)
        until(lambda: len(pages) == 2)
        going.add_epoch(FIRST)
        until(lambda: len(pages) == 3)
        going.add_epoch(replace(FIRST, epoch=1, valid_top1=61.5))
        until(lambda: len(pages) == 4)
        going.write_result(RESULT)

    trained = beside(train)
    assert main(["report", "--follow", str(going.path)]) == 0
    trained.join()
    assert len(pages) == 5
    assert [REFRESH.findall(page) for page in pages] == [["5"], ["5"], ["5"], ["15"], []]
    assert "Not ended yet: first" in pages[3]
    assert "61.5" in pages[3]
    assert "61.5" not in pages[2]
    assert "Not ended yet" not in pages[4]
    page = going.path / "report.html"
    assert capsys.readouterr().out.splitlines() == [
        f"{page}: drawn again with each epoch; open it in a browser; Control-C ends this",
        "all runs have ended",
    ]


def test_a_file_that_cannot_be_read_is_a_warning_once(going, pages, caplog):
    going.keep_epochs_before(0)
    whole = (going.path / "summary.csv").read_bytes()

    def spoil(content):
        write_whole(going.path / "summary.csv", lambda file: file.write(content))

    def train():
        until(lambda: len(pages) == 1)
        spoil(whole + b"no number\n")
        until(lambda: caplog.records)
        spoil(whole + b"no number!\n")
        time.sleep(0.1)
        spoil(whole)
        until(lambda: len(pages) == 2)
        going.write_result(RESULT)

    trained = beside(train)
    assert main(["report", "--follow", str(going.path)]) == 0
    trained.join()
    assert len({record.getMessage() for record in caplog.records}) == len(caplog.records)
    assert "summary.csv" in caplog.records[0].getMessage()


def test_a_run_that_has_ended_is_drawn_once(going, pages):
    going.keep_epochs_before(0)
    going.add_epoch(FIRST)
    going.write_result(RESULT)
    assert main(["report", "--follow", str(going.path)]) == 0
    assert len(pages) == 1


def test_a_folder_without_a_run_is_refused(here, refused):
    (here / "empty").mkdir()
    assert "is no run folder" in refused("report", "--follow", "empty")


def test_an_interrupt_leaves_a_page_that_does_not_reload(going, here):
    going.keep_epochs_before(0)
    going.add_epoch(FIRST)
    words = ["report", "--follow", "runs/first"]
    code, text = terminals.show(here, *words, columns=200, at="ends this", typed="\x03")
    assert code == 0, text
    assert text.splitlines()[-1].endswith("no longer followed; what trains goes on")
    assert not REFRESH.search((going.path / "report.html").read_text())
