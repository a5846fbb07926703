"""Scans the weight of the MGD loss in the demo's setting, on the validation part.

`.venv/bin/python benchmarks/demo_weight.py` prints the table of docs/demo.md.
"""

import statistics
import tempfile
from pathlib import Path

from rich.console import Console

from mgd.cli.demo import LABELS, METHODS, RECIPE, plan, run_all
from mgd.report import read_run

# The worth of the term per element: 192 weighted elements over the factor; 20 is "auto".
WORTH = (1.0, 3.0, 10.0, 20.0)
ELEMENTS = 192
SEEDS = 3
EPOCHS = 50


def main() -> None:
    """Runs the grid in a temporary folder and prints Markdown."""
    methods = {"student alone": METHODS["student alone"]} | {
        f"MGD amp, {worth:g}": {**METHODS["MGD amp"], "loss_factor": ELEMENTS / worth}
        for worth in WORTH
    }
    with tempfile.TemporaryDirectory() as folder:
        folders = run_all(plan(Path(folder), SEEDS, EPOCHS, methods), 2, Console(stderr=True))
        found: dict[str, list[float]] = {name: [] for name in methods}
        for run in map(read_run, folders[1:]):
            found[run.group].append(run.result["valid_top1"])
    print(f"{LABELS} labels, {EPOCHS} epochs, {SEEDS} seeds, learning rate")
    print(f"{RECIPE.schedule.learning_rate}, valid Acc@1 of the best epoch:\n")
    print("| method, worth per element | valid Acc@1, % |\n|---|---|")
    for name, values in found.items():
        print(f"| {name} | {statistics.fmean(values):.1f} ± {statistics.stdev(values):.1f} |")


if __name__ == "__main__":
    main()
