"""Early stopping: after so many epochs without a better validation accuracy a run ends."""

from dataclasses import replace

import pytest

from engine.loop.test_best_epoch import scored
from engine.loop.test_trainer import CutAt, PowerCutError, rows_of
from mgd.engine.loop.pipeline import Pipeline
from mgd.engine.loop.progress import Progress
from mgd.engine.loop.runlog import Reporter
from mgd.engine.options.config import RunConfig
from mgd.engine.run import train
from mgd.errors import InputError
from mgd.runfolder import read_run

pytestmark = pytest.mark.usefixtures("few_digits")


def epochs_of(tops, patience):
    """Returns how many epochs a run has, whose validation accuracies would be these."""
    progress = Progress(patience=patience)
    for top1 in tops:
        if progress.is_over:
            break
        progress.end_epoch(scored(top1))
    return progress.epoch


@pytest.mark.parametrize(
    ("tops", "patience", "epochs"),
    [
        ([1, 2, 2, 2, 9], 2, 4),  # an equal accuracy is no better one
        ([1, 2, 1, 3, 1, 1, 9], 2, 6),
        ([5, 4], 1, 2),
        ([1, 0, 0, 0], 0, 4),
        ([3, 2, 1], 3, 3),
    ],
)
def test_a_run_is_over_after_so_many_epochs_without_a_better_one(tops, patience, epochs):
    assert epochs_of(tops, patience) == epochs


def test_how_long_it_has_waited_is_part_of_the_state():
    progress = Progress(patience=2)
    for top1 in (3, 2):
        progress.end_epoch(scored(top1))
    again = Progress(patience=2)
    again.load_state_dict(progress.state_dict())
    assert not again.is_over
    again.end_epoch(scored(1))
    assert again.is_over


def test_a_state_of_an_earlier_version_counts_from_its_best_epoch():
    progress = Progress(patience=3)
    best = {"epoch": 1, "top1": 3.0, "top5": 9.0}
    progress.load_state_dict({"epoch": 4, "step": 0, "best": best})
    assert progress.waited == 2


class Heard(Reporter):
    def __init__(self):
        self.messages = []

    def message(self, text):
        self.messages.append(text)


@pytest.fixture
def tops(monkeypatch):
    """Validation accuracies that a run finds, one an epoch, before the last is found forever."""
    given = [50.0, 60.0, 60.0, 40.0]
    score, seen = Pipeline.score, []

    def scores(self, classifier, part, **options):
        found = score(self, classifier, part, **options)
        if part != "valid":
            return found
        seen.append(part)
        return replace(found, top1=given[min(len(seen), len(given)) - 1])

    monkeypatch.setattr(Pipeline, "score", scores)
    return seen


TOLD = "stopped after epoch 4: the validation accuracy was no better for 2 epochs (--patience)"


def test_a_run_ends_early_says_so_and_keeps_it(fast_run, tops):
    heard = Heard()
    outcome = train(fast_run.replace(epochs=9, patience=2), heard)
    assert heard.messages[-1] == TOLD
    assert outcome.stopped_after == 4
    run = read_run(outcome.folder)
    assert run.result.stopped_after == 4
    assert (run.result.best_epoch, len(run.epochs)) == (2, 4)  # of equal accuracies the later
    card = (outcome.folder / "MODEL_CARD.md").read_text()
    assert "The training ended early, after 4 epochs, since the accuracy" in card


def test_a_run_that_ended_early_is_not_gone_on_with(fast_run, tops):
    config = fast_run.replace(epochs=9, patience=2, experiment="run")
    folder = train(config).folder
    rows, heard = rows_of(folder, without=()), Heard()
    assert train(config.replace(resume="auto"), heard).stopped_after == 4
    assert heard.messages[-1] == TOLD
    assert rows_of(folder, without=()) == rows


def test_more_patience_goes_on(fast_run, tops):
    config = fast_run.replace(epochs=5, patience=2, experiment="run")
    train(config)
    outcome = train(config.replace(resume="auto", patience=9))
    assert len(rows_of(outcome.folder)) == 5
    assert outcome.stopped_after is None


@pytest.mark.parametrize("cut", [CutAt(2), CutAt(3, 2), CutAt(3)])
def test_a_resumed_run_ends_where_a_whole_one_does(fast_run, tops, cut):
    config = fast_run.replace(epochs=9, patience=2, experiment="run", print_freq=1)
    with pytest.raises(PowerCutError):
        train(config, cut)
    assert train(config.replace(resume="auto")).stopped_after == 4


def test_a_run_that_ends_with_its_last_epoch_did_not_end_early(fast_run, tops):
    outcome = train(fast_run.replace(epochs=4, patience=2))
    assert outcome.stopped_after is None
    assert read_run(outcome.folder).result.stopped_after is None


def test_without_an_accuracy_that_chooses_there_is_nothing_to_wait_for():
    with pytest.raises(InputError, match=r"`patience` \(=3\) has no effect with `keep_epoch=last`"):
        RunConfig().replace(patience=3, keep_epoch="last")
