"""The benchmarks' pages hold what `results.json` holds."""

import json
import pkgutil
from importlib import import_module

import benchmarks
import pytest
from benchmarks import adapter, detector_step, step, tables, views, views_kept
from benchmarks.common import PAIRS, RESULTS
from benchmarks.tables import PAGE, SPEED, page, speed_page
from benchmarks.targets import IMAGENET, TRACKED, targets, update_share

RESULTS_NOW = json.loads(RESULTS.read_text())


@pytest.mark.parametrize(
    "name", [found.name for found in pkgutil.iter_modules(benchmarks.__path__)]
)
def test_every_benchmark_finds_what_it_imports(name):
    assert import_module(f"benchmarks.{name}")


@pytest.mark.parametrize("options", [step.KD, step.MGD_AND_KD, *adapter.METHODS.values()])
def test_the_steps_that_are_timed_train_a_student(options):
    bench = step.Bench("cifar_resnet20", "cifar_resnet8_x0_5", batch=2, size=16)
    bench.floor()()
    take = bench.distilling("tried", **options)
    _, trained, _ = bench.states["tried"]
    before = [parameter.detach().clone() for parameter in trained.parameters()]
    take()
    assert all((now != then).any() for now, then in zip(trained.parameters(), before, strict=True))


@pytest.mark.parametrize("options", detector_step.STEPS.values(), ids=str)
def test_the_steps_of_detectors_that_are_timed_train_a_student(options):
    names = ("retinanet_x0_125/timm:test_resnet",) * 2
    bench = detector_step.Bench(*names, size=128, batch=2)
    take, trained = bench.distilling(**options)
    before = [parameter.detach().clone() for parameter in trained.parameters()]
    take()
    # The rate is so small that some weights stay as they are to float32's precision.
    now = zip(trained.parameters(), before, strict=True)
    assert any((new != old).any() for new, old in now)
    assert all(parameter.grad is not None for parameter in trained.parameters())


def test_the_table_of_detectors_has_every_step():
    names = ("retinanet_x0_125/timm:test_resnet",) * 2
    found = detector_step.measure(detector_step.Bench(*names, size=128, batch=2), rounds=1)
    lines = tables.detector_step({"setting": "tried", **found}).splitlines()
    assert len(lines) == 4 + 2 + len(detector_step.STEPS)
    assert "| over teacher + student | over teacher's backbone + student |" in lines[2]


def test_both_pages_are_those_of_the_results():
    hint = "run `python -m benchmarks.tables`"
    assert page(RESULTS_NOW) == PAGE.read_text(), hint
    assert speed_page(SPEED.read_text(), RESULTS_NOW) == SPEED.read_text(), hint


def test_a_changed_figure_would_be_seen():
    changed = json.loads(RESULTS.read_text())
    changed["step"]["pairs"]["resnet50 -> mobilenet_v1"]["memory"] = 9.99
    assert page(changed) != PAGE.read_text()
    assert speed_page(SPEED.read_text(), changed) != SPEED.read_text()


def test_the_page_of_views_is_that_of_the_results():
    text = views.PAGE.read_text()
    assert views.page(text, RESULTS_NOW["views"]) == text, f"run `{views.COMMAND}`"
    assert RESULTS_NOW["views"]["accuracy"].keys() == views.SHOWN.keys()


def test_every_wrong_view_of_the_benchmark_is_shown_to_the_network():
    found = views.measure(rounds=1, epochs=0)
    assert found.keys() == views.SHOWN.keys()
    assert all(0 <= accuracy <= 100 for (accuracy,) in found.values())


def test_targets_name_every_pair_and_say_what_was_not_measured():
    assert [measured for _, _, measured in targets({})] == [None] * len(targets({}))
    assert all(any(pair in what for what, _, _ in targets({})) for pair in PAIRS)


def test_the_page_of_kept_answers_is_that_of_the_results():
    text = views_kept.PAGE.read_text()
    hint = f"run `{views_kept.COMMAND}`"
    assert views_kept.page(text, RESULTS_NOW["views_kept"]) == text, hint
    assert RESULTS_NOW["views_kept"]["seconds"].keys() == views_kept.RUNS.keys()


def test_an_update_is_its_images_and_a_solve_over_an_epochs_steps():
    pair = "resnet50 -> mobilenet_v1"
    results = {
        "step": {"pairs": {pair: {"seconds": {"mgd": 2.0}, "batch": 8}}},
        "matching": {
            "tracking": {pair: {"seconds an image": {"forwards": 0.1}, "tracking / forwards": 1.1}},
            "solve, four points of resnet50 -> mobilenet_v1": {"scipy": 1.0},
        },
    }
    epoch = IMAGENET * 0.25
    found = update_share(results, pair)
    assert found["pass"] == round((TRACKED * 0.11 + 1) / epoch, 4)
    assert found["online"] == round((TRACKED * 0.01 + 1) / epoch, 4)
    assert update_share({}, pair) == {}
