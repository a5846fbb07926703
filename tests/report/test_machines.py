"""Versions, machines and commands in the page: what is shared, what differs, as text."""

import re
import shlex
from dataclasses import replace
from html import unescape

import pytest
from reported import SCRIPT, make_run, read_page

from mgd.report import write_report
from recorded import a_start


@pytest.fixture
def page(tmp_path):
    def write(*starts_of_runs):
        runs = [
            replace(make_run(tmp_path, f"run{i}", 70.0, lr=i), starts=list(starts))
            for i, starts in enumerate(starts_of_runs)
        ]
        write_report(runs, tmp_path / "report.html", "Title")
        return read_page(tmp_path / "report.html")

    return write


def table_of(page, label):
    """Returns the texts of a table's cells, row by row."""
    body = page.text.partition(f'aria-label="{label}"')[2].partition("</table>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", body)
    return [[unescape(re.sub("<.*?>", "", c)) for c in re.findall("<t[dh].*?</t", r)] for r in rows]


def cells(page, label):
    return [[cell.removesuffix("</t") for cell in row] for row in table_of(page, label)]


def test_what_all_runs_share_is_told_once(page):
    read = page([a_start()], [a_start(time="later", command=["mgd", "distill"])])
    assert (
        "All runs were made with the same versions and on the same kind of machine." in read.texts
    )
    rows = dict(cells(read, "Versions and machine of all runs")[1:])
    assert rows["torch"] == "2.14.1"
    assert rows["GPUs"] == "2 × GPU A"
    assert rows["git commit"] == "0123456789ab"
    assert "Versions and machines that differ" not in read.text


def test_what_differs_is_a_row_for_each_run(page):
    other = a_start(versions={"mgd": "0.2.0", "torch": "2.6", "timm": "1"}, devices=[])
    read = page([a_start()], [other])
    assert cells(read, "Versions and machines that differ") == [
        ["run", "torch", "GPUs", "timm"],
        ["run0", "2.14.1", "2 × GPU A", "–"],
        ["run1", "2.6", "none", "1"],
    ]
    assert ["torch", "2.6"] not in cells(read, "Versions and machine of all runs")


def test_a_run_that_was_resumed_elsewhere_has_a_row_for_each_part(page):
    read = page([a_start(), a_start(2, step=5, cores=2)])
    assert cells(read, "Versions and machines that differ")[1:] == [
        ["run0", "8"],
        ["run0, resumed in epoch 3, after 5 steps", "2"],
    ]


def test_runs_without_a_record_are_named(page):
    read = page([a_start()], [])
    assert "Not recorded, since the version of mgd was too old: run1." in read.texts
    assert "Versions and machine" not in page([], []).text


def test_every_command_can_be_copied_whole(page):
    command = ["mgd", "train", "my photos", "--experiment", "a'b", SCRIPT]
    read = page([a_start(command=command), a_start(1, command=[])])
    blocks = [
        unescape(b) for b in re.findall(r'<pre class="copy" tabindex="0">(.*?)</pre>', read.text)
    ]
    assert shlex.split(blocks[0]) == command
    assert len(blocks) == 2  # the other is the one that makes the run again
    assert "user-select: all" in read.text
    assert "Started at 2026-11-25 10:40:04 UTC:" in read.texts
    assert "Resumed in epoch 2 at 2026-11-25 10:40:04 UTC, by a program and no command line." in (
        read.texts
    )


def test_what_a_file_says_of_a_machine_stays_text(page):
    read = page([a_start(processor=SCRIPT, versions={SCRIPT: SCRIPT}, time=SCRIPT)])
    assert read.tags.count("script") == 1
