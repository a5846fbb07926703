"""Every block of commands or Python in the pages runs; a mark says what could only be parsed.

The blocks of a page run in their order, in one folder. `pages.py` has the marks, `shell.py` says
which commands are known. A block of Python with `title="FILE"` is written to that file instead.
"""

import doctest
import re
import shlex
from functools import partial

import pytest
import torch
from PIL import Image

from boxed import write_voc
from mgd.errors import InputError
from pages import PAGES, PYTHON, ROOT, SESSION, SHELL, TEXT, blocks, without_blocks
from shell import execute, own_modules, run_bash

MARKS = re.compile(r"with .+|parse, .+|needs a GPU|in \S+ as \S+|after\n.+", re.DOTALL)
RUN = SHELL | PYTHON | SESSION


@pytest.fixture(scope="session")
def images(tmp_path_factory, scans):
    """What the pages call their data, of 16 px: see CONTRIBUTING.md."""
    root, (found, labels) = tmp_path_factory.mktemp("pages"), scans
    for label, name in enumerate(("cat", "dog", "owl")):
        for number, pixels in enumerate(found[labels == label][:10]):
            image = Image.fromarray(pixels).resize((16, 16))
            part = "more/x" if number > 7 else f"photos/{'train' if number < 5 else 'valid'}/{name}"
            (root / part).mkdir(parents=True, exist_ok=True)
            image.save(root / part / f"{name}{number}.jpg")
            if number < 8:  # of 12 bits
                path = root / part.replace("photos", "scans")
                path.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.astype("uint16") * 16).save(path / f"{name}{number}.png")
    write_voc(root / "cells")
    return root


@pytest.fixture
def folder(tmp_path, images, monkeypatch):
    """The folder in which the blocks of a page run."""
    folder = tmp_path / "page"
    folder.mkdir()
    for name in ("photos", "data", "DATA"):
        (folder / name).symlink_to(images / "photos", target_is_directory=True)
    others = ("more", "more"), ("PHOTOS", "more/x"), ("scans", "scans"), ("cells", "cells")
    for name, target in others:
        (folder / name).symlink_to(images / target, target_is_directory=True)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)  # as python in this folder has it
    with own_modules():
        yield folder
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def show(code):
    return "\n".join(line[2:] for line in code.splitlines() if line.startswith("$ "))


def run(block, names, folder, extra=()):
    """Runs a block; `names` is what the Python of the page has defined so far."""
    hidden = block.marked("after\n")
    if block.title:
        (folder / block.title).write_text(block.code)
    elif block.language in SHELL:
        lines = show(block.code) if block.language == "console" else block.code
        extra = [*extra, *shlex.split(block.marked("with"))]
        do = partial(execute, extra=extra, parse=block.is_parsed)
        code, said = run_bash(f"{hidden}\n{lines}", folder, do)
        assert code == 0, said
    elif block.is_parsed:
        compile(block.code, f"line {block.line}", "exec")
    else:
        exec(compile(f"{hidden}\n", "hidden lines", "exec"), names)
        if block.language in SESSION:
            examine(block, names)
        else:
            exec(compile("\n" * (block.line - 1) + block.code, f"line {block.line}", "exec"), names)


def examine(block, names):
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    test = doctest.DocTestParser().get_doctest(block.code, names, "page", None, block.line)
    said = []
    doctest.DocTestRunner(verbose=False, optionflags=flags).run(
        test, out=said.append, clear_globs=False
    )
    assert not said, "".join(said)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_a_page_run(page, folder, forked_ranks, few_digits, free_port):
    address = ["--dist-url", f"tcp://localhost:{free_port}"]
    names = {"__name__": "__page__"}
    for block in blocks(page.read_text()):
        if block.language in RUN and not any(block.elsewhere):
            try:
                run(block, names, folder, address)
            except (Exception, SystemExit) as error:
                raise AssertionError(f"line {block.line} of {page.relative_to(ROOT)}") from error


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_says_what_it_is(page):
    text = page.read_text()
    found = blocks(text)
    assert text.count("```") == 2 * len(found)
    for block in found:
        assert block.language in RUN | TEXT, f"line {block.line}: give its language"
        for mark in block.marks:
            assert MARKS.fullmatch(mark), f"line {block.line}: no mark of pages.py: {mark}"
        if any(block.elsewhere):
            file, name = block.elsewhere
            assert f'"{name}"' in (ROOT / "tests" / file).read_text(), block.elsewhere
    rest = without_blocks(text)
    assert "<!-- runs:" not in rest, "a mark stands right above its block"
    command = re.search(r"^ {4,}(mgd|python|pip|make|torchrun) .*", rest, re.MULTILINE)
    assert not command, f"no block, and so not run: {command[0]}"


PAGE = """
# A page

<!-- runs: after
mkdir made
-->
```bash
ls made > listed
{}
```
"""


def only(text):
    (found,) = blocks(text)
    return found


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("mgd points --student cifar_resnet8 --sise 8", "unrecognized arguments: --sise"),
        ("mgd evaluate gone", "'gone' does not exist"),
        ("curl something", "curl: command not found"),
        ("cat gone", "No such file"),
        ("for each in 1 2; do echo $eac; done", "eac: unbound variable"),
    ],
)
def test_a_line_that_fails_is_found(line, said, folder):
    with pytest.raises(AssertionError, match=re.escape(said)):
        run(only(PAGE.format(line)), {}, folder)
    assert (folder / "listed").exists()


@pytest.mark.parametrize(
    "line", ["make nothing", "pip install '.[gone]'", "python -m benchmarks.gone", "git push"]
)
def test_a_command_that_is_recognised_and_not_run_is_checked(line, folder):
    with pytest.raises(AssertionError, match=line.split()[-1].strip("'.[]")):
        run(only(PAGE.format(line)), {}, folder)


@pytest.mark.parametrize("mark", ["needs a GPU", "parse, no such data"])
@pytest.mark.parametrize(
    "line", ["mgd train gone --eposh 3", "mgd report", "torchrun main_mgd.py gone --epochs x"]
)
def test_a_marked_command_is_parsed(mark, line, folder):
    page = PAGE.format(line).replace("```bash", f"<!-- runs: {mark} -->\n```bash")
    with pytest.raises(InputError, match=r"eposh|required: RUN|'x'"):
        run(only(page), {}, folder)
    good = page.replace("--eposh", "--epochs").replace("report", "report runs/gone")
    run(only(good.replace(" x", " 2").replace("mkdir", "ls")), {}, folder)


@pytest.mark.parametrize("text", ["assert x == 2\n", ">>> x\n2\n"])
def test_python_that_fails_is_found(text, folder):
    language = "pycon" if text.startswith(">>>") else "python"
    page = f"<!-- runs: after\nx = 1\n-->\n```{language}\n{text}```\n"
    with pytest.raises(AssertionError):
        run(only(page), {}, folder)
    run(only(page.replace("2", "1")), {}, folder)
