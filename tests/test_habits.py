"""The habits of the house that no linter knows: sizes, reasons, and documented public names."""

import ast
import inspect
import io
import re
import tokenize
from itertools import pairwise
from pathlib import Path

import pytest

import mgd

ROOT = Path(__file__).parents[1]
PACKAGE = Path(mgd.__file__).parent
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 300, 60
PRIVATE = re.compile(r"_[A-Za-z]\w*")
PRIVATE_TEXT = re.compile(r"(?:\w+\.)*_[A-Za-z]\w*\.?")
DIRECTIVE = re.compile(r"#\s*(?:type:\s*ignore|noqa)[^#]*")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def texts(folder):
    return {
        str(path.relative_to(folder.parent)): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*.py"))
    }


SOURCES = texts(PACKAGE)
MEASURED = SOURCES | texts(ROOT / "benchmarks")


def is_private(name):
    return PRIVATE.fullmatch(name) is not None


def long_files(sources):
    sizes = {name: text.count("\n") for name, text in sources.items()}
    return [f"{name}: {lines} lines" for name, lines in sizes.items() if lines > MOST_LINES]


def long_functions(sources):
    for name, text in sources.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, FUNCTIONS):
                lines = node.end_lineno - node.lineno + 1
                if lines > MOST_LINES_OF_A_FUNCTION:
                    yield f"{name}:{node.lineno}: `{node.name}` has {lines} lines"


def comments(text):
    """Returns line number -> comment, less what is an order to a tool and no reason."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    found = {t.start[0]: t.string for t in tokens if t.type == tokenize.COMMENT}
    return {line: DIRECTIVE.sub("", comment).strip("# ") for line, comment in found.items()}


def without_reason(text, lines):
    """Yields those of the lines that have no reason beside them or in a comment line above."""
    reasons, rows = comments(text), text.splitlines()
    for line in lines:
        above = rows[line - 2].lstrip().startswith("#") if line > 1 else False
        if not reasons.get(line) and not (above and reasons.get(line - 1)):
            yield line


def ignored_types(text):
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    pattern = re.compile(r"#\s*type:\s*ignore")
    return [t.start[0] for t in tokens if t.type == tokenize.COMMENT and pattern.match(t.string)]


def defined_and_read(sources):
    """Returns the private names that the package defines, and those that it uses as well."""
    defined, read = set(), set()
    for text in sources.values():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
                defined.add(node.name)
            elif isinstance(node, (ast.Name, ast.Attribute)):
                name = node.id if isinstance(node, ast.Name) else node.attr
                (read if isinstance(node.ctx, ast.Load) else defined).add(name)
    return defined, read


def foreign_names(text, own):
    """Yields (line, name) of each private name of another library: one that is not in `own`."""
    tree = ast.parse(text)
    inside_f_strings = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
    }
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("mgd"):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [part for alias in node.names for part in alias.name.split(".")]
        elif isinstance(node, ast.Attribute):
            names = [node.attr]
        elif isinstance(node, FUNCTIONS):
            names = [node.name]
        elif isinstance(node, ast.Constant) and id(node) not in inside_f_strings:
            is_name = isinstance(node.value, str) and PRIVATE_TEXT.fullmatch(node.value)
            names = node.value.split(".") if is_name else []
        yield from ((node.lineno, name) for name in names if is_private(name) and name not in own)


def own_names(sources):
    """Returns private names that the package both defines and uses.

    One that is defined here and used nowhere here is dead, or it is there because another library
    looks for it, as DDP does for `_ddp_params_and_buffers_to_ignore`.
    """
    defined, read = defined_and_read(sources)
    return defined & read


OWN = own_names(SOURCES)


def private_without_reason(text, own):
    found = dict(foreign_names(text, own))
    return [f"{line}: {found[line]}" for line in without_reason(text, sorted(found))]


def test_no_file_is_too_long():
    assert long_files(MEASURED) == []


def test_no_function_is_too_long():
    assert list(long_functions(MEASURED)) == []


@pytest.mark.parametrize("name", MEASURED)
def test_every_ignored_type_has_a_reason(name):
    text = MEASURED[name]
    assert list(without_reason(text, ignored_types(text))) == []


@pytest.mark.parametrize("name", SOURCES)
def test_every_private_name_of_another_library_has_a_reason(name):
    assert private_without_reason(SOURCES[name], OWN) == []


def test_a_long_file_and_a_long_function_are_found():
    body = "def long():\n" + "    pass\n" * MOST_LINES
    assert long_files({"a.py": body}) == ["a.py: 301 lines"]
    assert list(long_functions({"a.py": body})) == ["a.py:1: `long` has 301 lines"]
    assert long_files({"a.py": "\n" * MOST_LINES}) == []


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("x = f()  # type: ignore[misc]", [1]),
        ("x = f()  # type: ignore[misc]  # f has no types", []),
        ("# f has no types\nx = f()  # type: ignore[misc]", []),
        ("# noqa: E501\nx = f()  # type: ignore[misc]", [2]),
        ("y = 1  # a comment beside other code\nx = f()  # type: ignore", [2]),
        ("x = '# type: ignore'", []),
    ],
)
def test_an_ignored_type_without_a_reason_is_found(text, lines):
    assert list(without_reason(text, ignored_types(text))) == lines


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from torch.nn.modules.batchnorm import _BatchNorm", ["1: _BatchNorm"]),
        ("from torch.utils._pytree import tree_leaves", ["1: _pytree"]),
        ("import torch._dynamo", ["1: _dynamo"]),
        ("from mgd.tensors.logits import _check", []),
        ("x = tensor._version", ["1: _version"]),
        ("x = tensor._version  # counts writes in place", []),
        ("# counts writes in place\nx = tensor._version", []),
        ("x = getattr(tensor, '_version')", ["1: _version"]),
        ("x = name.removeprefix('_orig_mod.')", ["1: _orig_mod"]),
        ("x = f'{name}_suffix'", []),
        ("self._own = 1\nx = self._own", []),
        ("self._ddp_params_and_buffers_to_ignore = []", ["1: _ddp_params_and_buffers_to_ignore"]),
        ("class A(B):\n    def _hook_of_b(self): ...", ["2: _hook_of_b"]),
        ("x = enum.__members__", []),
    ],
)
def test_a_private_name_without_a_reason_is_found(text, found):
    assert private_without_reason(text, own_names({"a.py": text})) == found


def described(docstring):
    """Returns the arguments that the `Args` of a docstring describe."""
    section = re.search(r"^Args:\n((?:[ ]{4,}.*\n?|\n)+)", docstring or "", re.MULTILINE)
    heads = re.findall(r"^ {4}(\w[\w, ]*):", section[1] if section else "", re.MULTILINE)
    return {name.strip() for head in heads for name in head.split(",")}


def described_below(body):
    """Returns the names in the body of a class or module that have their text in the line below."""
    for statement, text in pairwise(body):
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            targets = getattr(statement, "targets", [getattr(statement, "target", None)])
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def home(name):
    """Returns the syntax tree of the module that a public name is taken from."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (module,) = (
        node.module
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}
    )
    path = ROOT.joinpath(PACKAGE.parent, *module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))


def class_body(name):
    tree = ast.parse(Path(inspect.getfile(getattr(mgd, name))).read_text(encoding="utf-8"))
    return next((n.body for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name), [])


def parameters_of(public):
    if isinstance(public, type) and issubclass(public, list):
        return []  # what every list takes
    try:
        found = inspect.signature(public).parameters.values()
    except ValueError:  # exceptions that take what every exception takes
        return []
    return [p for p in found if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


CALLABLES = [name for name in mgd.__all__ if callable(getattr(mgd, name))]
VALUES = [name for name in mgd.__all__ if name not in CALLABLES and name != "__version__"]


@pytest.mark.parametrize("name", CALLABLES)
def test_every_argument_of_a_public_name_is_described(name):
    public = getattr(mgd, name)
    assert public.__doc__, "no docstring"
    known = described(inspect.getdoc(public)) | set(described_below(class_body(name)))
    assert {p.name for p in parameters_of(public)} - known == set()


@pytest.mark.parametrize("name", CALLABLES)
def test_every_public_name_is_annotated(name):
    public = getattr(mgd, name)
    assert [p.name for p in parameters_of(public) if p.annotation is p.empty] == []
    if inspect.isfunction(public):
        assert inspect.signature(public).return_annotation is not inspect.Signature.empty


@pytest.mark.parametrize("name", VALUES)
def test_every_public_value_has_its_text_below(name):
    assert name in set(described_below(home(name).body))


def test_described_arguments_are_read_from_the_docstring():
    text = "Does.\n\nArgs:\n    a: One: of two.\n        Goes on: here.\n    b, c: Two.\n"
    text += "\nReturns:\n    d: Not."
    assert described(text) == {"a", "b", "c"}
    assert described("Does.") == set()
