"""Every `>>>` in a docstring of the package runs, and shows what it says.

An example may use `mgd`, `torch` and `nn` (`torch.nn`) without importing them; whatever else it
needs, it makes itself. Random numbers start from `torch.manual_seed(0)`.
"""

import ast
import doctest
from pathlib import Path

import pytest
import torch

import mgd

SOURCE = Path(mgd.__file__).parent
NAMES = {"mgd": mgd, "torch": torch, "nn": torch.nn}
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
NOT_YET = {
    "mgd.engine.runtime.signals.StopSignals",
    "mgd.inside.discovery.discover_points",
    "mgd.inside.discovery.resolve_points",
    "mgd.inside.taps.TappedModel",
    "mgd.method.distiller.Distiller",
    "mgd.method.matcher.ChannelMatcher",
    "mgd.method.rematch.update_matching",
}
"""Examples that are still sketches. One that runs must leave this list."""


def docstrings(node, name):
    """Yields (dotted name, docstring) of a module's tree; decorated objects hide from `doctest`."""
    if text := ast.get_docstring(node):
        yield name, text
    for child in getattr(node, "body", ()):
        if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from docstrings(child, f"{name}.{child.name}")


def dotted(path):
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


FILES = sorted(SOURCE.rglob("*.py"))
EXAMPLES = {
    name: text
    for path in FILES
    for name, text in docstrings(ast.parse(path.read_text(encoding="utf-8")), dotted(path))
    if ">>>" in text
}


def parse(name, text=None):
    return doctest.DocTestParser().get_doctest(text or EXAMPLES[name], dict(NAMES), name, name, 0)


def run(test):
    """Runs an example and returns what the runner complains of; empty if all is well."""
    said = []
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=said.append)
    return "".join(said)


def marked(name):
    unfinished = pytest.mark.xfail(strict=True, reason="a sketch; take it off NOT_YET once it runs")
    return pytest.param(name, marks=unfinished if name in NOT_YET else ())


@pytest.mark.parametrize("name", [marked(name) for name in EXAMPLES])
def test_an_example_runs(name):
    test = parse(name)
    assert any(example.want for example in test.examples), "the example shows no result"
    if complaint := run(test):
        pytest.fail(complaint, pytrace=False)


def test_no_example_is_out_of_sight():
    prompts = sum(path.read_text(encoding="utf-8").count(">>>") for path in FILES)
    assert prompts == sum(text.count(">>>") for text in EXAMPLES.values())


def test_the_list_of_sketches_names_examples():
    assert NOT_YET - EXAMPLES.keys() == set()


@pytest.mark.parametrize(
    "text", [">>> mgd.nothing", ">>> 1 + 1\n3", ">>> torch.zeros(2).shape\ntorch.Size([3])"]
)
def test_a_false_example_is_found(text):
    assert run(parse("false", text)) != ""
