"""Every `>>>` in a docstring of the package runs, and shows what it says.

An example may use `mgd`, `torch`, `nn` (`torch.nn`) and the names of its own module without
importing them; whatever else it needs, it makes itself. Random numbers start from
`torch.manual_seed(0)`.
"""

import ast
import doctest
import importlib
from pathlib import Path

import pytest
import torch

import mgd

SOURCE = Path(mgd.__file__).parent
NAMES = {"mgd": mgd, "torch": torch, "nn": torch.nn}
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


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
MODULES = {dotted(path) for path in FILES}
EXAMPLES = {
    name: text
    for path in FILES
    for name, text in docstrings(ast.parse(path.read_text(encoding="utf-8")), dotted(path))
    if ">>>" in text
}


def module_of(name):
    """Returns the module that a dotted name lies in."""
    while name not in MODULES:
        name = name.rpartition(".")[0]
    return importlib.import_module(name)


def parse(name, text=None):
    names = {**(vars(module_of(name)) if text is None else {}), **NAMES}
    return doctest.DocTestParser().get_doctest(text or EXAMPLES[name], names, name, name, 0)


def run(test):
    """Runs an example and returns what the runner complains of; empty if all is well."""
    said = []
    doctest.DocTestRunner(verbose=False, optionflags=FLAGS).run(test, out=said.append)
    return "".join(said)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(name):
    test = parse(name)
    assert any(example.want for example in test.examples), "the example shows no result"
    if complaint := run(test):
        pytest.fail(complaint, pytrace=False)


def test_no_example_is_out_of_sight():
    prompts = sum(path.read_text(encoding="utf-8").count(">>>") for path in FILES)
    assert prompts == sum(text.count(">>>") for text in EXAMPLES.values())


@pytest.mark.parametrize(
    "text", [">>> mgd.nothing", ">>> 1 + 1\n3", ">>> torch.zeros(2).shape\ntorch.Size([3])"]
)
def test_a_false_example_is_found(text):
    assert run(parse("false", text)) != ""
