"""Run folders for the tests of the report, and a reader of its page."""

import random
from dataclasses import replace
from html.parser import HTMLParser

from mgd.runfolder import (
    EpochRecord,
    MatchingRecord,
    RunFolder,
    epoch_columns,
    read_run,
)
from recorded import a_point, a_result

SCRIPT = "<script>alert(1)</script>"
TERMS = ("loss", "loss_ce", "loss_mgd_1")
COLUMNS = epoch_columns(TERMS, teacher=True, matching=True, skips=False)
OTHERS = dict.fromkeys(set(COLUMNS) - {"epoch", "valid_top1", *TERMS}, 1.0)
RESULT = a_result(test_top5=None)
POINT = a_point()


def make_run(
    root,
    name,
    accuracy=None,
    distiller="none",
    teacher_top1=None,
    points=(),
    epochs=(50.0, 60.5),
    losses=(("loss", 1.0),),
    **options,
):
    """Writes a run folder, unfinished without an accuracy."""
    options = {"arch": "net", "data": "digits", "size": 8, "train-images": 100, **options}
    folder = RunFolder(root / name, {"distiller": distiller, **options}, COLUMNS)
    folder.keep_epochs_before(0)
    others = dict(OTHERS)
    if distiller == "none":
        others |= dict.fromkeys(("teacher_top1", "teacher_top5"))
    if not points:
        others |= dict.fromkeys(("matching_cost", "matching_churn"))
    for epoch, top1 in enumerate(epochs):
        folder.add_epoch(EpochRecord(epoch=epoch, valid_top1=top1, losses=dict(losses), **others))
    if accuracy is not None:
        folder.write_result(replace(RESULT, test_top1=accuracy, teacher_top1=teacher_top1))
    if points:
        folder.write_matching(MatchingRecord(epoch=0, points=list(points)))
    folder.close()
    return read_run(folder.path)


def wide_point(students=64, teachers=256, seed=0):
    """Returns a point of many channels, each of the teacher's followed once."""
    channels = random.Random(seed).sample(range(teachers), teachers)
    groups = teachers // students
    matching = [channels[g * students : (g + 1) * students] for g in range(groups)]
    return replace(POINT, teacher_channels=teachers, matching=matching)


class Reader(HTMLParser):
    """Collects the elements and the texts of a page, and what it would fetch."""

    def __init__(self, page):
        super().__init__()
        self.text = page
        self.tags, self.elements, self.texts, self.sources = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        self.elements.append((tag, values))
        self.sources += [values[name] for name in ("src", "href") if name in values]
        assert not any(name.startswith("on") for name in values)

    def handle_data(self, data):
        self.texts.append(data)

    def ids(self):
        return [values["id"] for _, values in self.elements if "id" in values]


def read_page(path):
    return Reader(path.read_text(encoding="utf-8"))
