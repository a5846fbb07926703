"""A shell for the pages: bash reads a block, and its commands run in this process.

An interpreter takes seconds to import torch. So bash does what is bash's (quotes, patterns, loops,
redirections) and asks here for each command; one that is not known here is an error.
"""

import contextlib
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO
from unittest import mock

from mgd.cli import main
from mgd.cli.main import COMMANDS as OTHERS
from mgd.cli.parser import Parser, RunParser
from mgd.engine.options.config import RunConfig
from mgd.engine.options.option import COMMANDS, DETECTOR_COMMANDS

ROOT = Path(__file__).parents[1]
SMALL = ("--epochs", "1", "--workers", "0", "--tensorboard", "0", "--learning-rate", "0.001")
"""Added to each command that trains. At the usual rate a step on a few images makes logits of
1e14, of which no exported file agrees with PyTorch."""
SCRIPTS = {"main_base.py": "train", "main_mgd.py": "distill"}
TOOLS = ("cat", "cp", "head", "ln", "ls", "mkdir", "rm")
ASKED = (
    "mgd",
    "python",
    "torchrun",
    "srun",
    "scontrol",
    "pip",
    "make",
    "git",
    "cd",
    "source",
    "tensorboard",
    "wandb",
)

_PRELUDE = r"""
set -euo pipefail
export SLURM_NNODES=2 SLURM_JOB_ID=1 SLURM_JOB_NODELIST=node0
PATH=/no-other-program
ask() {
    printf '%s\0' "$#" "$@" >&"$ASK"
    read -r -u "$ANSWER" code
    command -p cat "$PRINTED"
    return "$code"
}
"""
_PRELUDE += "".join(f'{name}() {{ ask {name} "$@"; }}\n' for name in ASKED)
_PRELUDE += "".join(f'{name}() {{ command -p {name} "$@"; }}\n' for name in TOOLS)


def run_bash(code: str, folder: Path, answer: Callable[[list[str]], int]) -> tuple[int, str]:
    """Runs lines of bash in a folder.

    Args:
        code: The lines.
        folder: Where to run them.
        answer: Called with the words of each command of `ASKED`; prints, and returns its exit code.

    Returns:
        The exit code, and what was printed.
    """
    asked, ask = os.pipe()
    answers, reply = os.pipe()
    printed, output = folder.parent / "printed", folder.parent / "output"
    pipes = {"ASK": str(ask), "ANSWER": str(answers), "PRINTED": str(printed)}
    with output.open("w") as said:
        process = subprocess.Popen(
            ["bash", "-c", _PRELUDE + code],
            cwd=folder,
            env={**os.environ, **pipes},
            pass_fds=(ask, answers),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
    os.close(ask)
    os.close(answers)
    try:
        with open(asked, "rb") as questions:
            for words in _commands(questions):
                # A file, since `mgd predict --format csv` writes bytes.
                with (
                    printed.open("w") as file,
                    contextlib.redirect_stdout(file),
                    contextlib.redirect_stderr(file),
                ):
                    code_of_exit = answer(words)
                os.write(reply, f"{code_of_exit}\n".encode())
        return process.wait(), output.read_text()
    finally:
        process.kill()
        process.wait()
        os.close(reply)


def _commands(questions: BinaryIO) -> Iterator[list[str]]:
    while count := _word(questions):
        yield [_word(questions) for _ in range(int(count))]


def _word(questions: BinaryIO) -> str:
    letters = iter(lambda: questions.read(1), b"\0")
    found = b""
    for letter in letters:
        if not letter:
            return ""
        found += letter
    return found.decode()


def execute(words: list[str], extra: Sequence[str] = (), parse: bool = False) -> int:
    """Does what a command of a page does, or checks that it could.

    Args:
        words: The command.
        extra: Words that are added to `mgd train` and `mgd distill`.
        parse: Whether options are only parsed.

    Returns:
        The exit code.

    Raises:
        AssertionError: If the command is not known here, or names what does not exist.
    """
    match words:
        case ["mgd", *rest] | ["python", "-m", "mgd", *rest]:
            return _run_mgd(rest, extra, parse)
        case ["python", ("main_mgd.py" | "main_base.py") as script, *rest]:
            return _run_mgd([SCRIPTS[script], *rest], extra, parse)
        case ["python", script] if not parse and Path(script).is_file():
            with own_modules():
                sys.path.insert(0, os.getcwd())
                runpy.run_path(script, run_name="__main__")
        case ["python", "-m", module, *_] if module.startswith(("benchmarks.", "docs.")):
            assert (ROOT / module.replace(".", "/")).with_suffix(".py").exists(), module
        case ["torchrun", *rest] if parse and set(rest) & set(SCRIPTS):
            (at,) = (number for number, word in enumerate(rest) if word in SCRIPTS)
            return _run_mgd([SCRIPTS[rest[at]], *rest[at + 1 :]], extra, parse)
        case ["srun", *rest] if parse:
            return execute(rest, extra, parse)
        case ["scontrol", "show", "hostnames", *_] if parse:
            print("node0")
        case ["make", *targets]:
            known = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert {target for target in targets if "=" not in target} <= set(known), words
        case ["pip", "install", *rest] | ["python", "-m", "pip", "install", *rest]:
            _check_extras(rest)
        case ["git", "clone", _] | ["cd", _] | ["source", _] | ["python", "-m", "venv", _]:
            pass  # setting up, as make does before the tests
        case ["tensorboard", "--logdir", _] | ["wandb", "login"] | ["wandb", "sync", _]:
            pass  # other people's programs: one runs until it is stopped, one asks for an account
        case _:
            raise AssertionError(f"the tests do not know this command: {words}")
    return 0


def _run_mgd(words: list[str], extra: Sequence[str], parse: bool) -> int:
    if words[:1] in (["train"], ["distill"], ["train-detector"], ["distill-detector"]):
        words = [*words, *SMALL, *extra]
    if parse:
        parsed(words)
        return 0
    with own_modules():
        try:
            return main(words)
        except SystemExit as end:  # after --help
            return int(end.code or 0)


class _Parsed(Exception):  # noqa: N818  (it stops a command, and is no error)
    """Stops a command behind its parser."""


def parsed(words: Sequence[str]) -> RunConfig | None:
    """Parses the words behind `mgd` as the command does, and does no more.

    Returns:
        The configuration of a command that makes a run; None of the others.

    Raises:
        InputError: For what cannot be used.
    """
    command, *rest = words
    if command in (*COMMANDS, *DETECTOR_COMMANDS):
        return RunParser(command).read(rest)
    parse_args = Parser.parse_args

    def stop(self, *arguments):
        parse_args(self, *arguments)
        raise _Parsed

    with mock.patch.object(Parser, "parse_args", stop), contextlib.suppress(_Parsed):
        OTHERS[command](rest)
        raise AssertionError(f"mgd {command} has another parser")
    return None


def _check_extras(words: Sequence[str]) -> None:
    """Checks that what is installed from here has the extras that are asked for."""
    known = re.findall(r"^([\w-]+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    for extras in re.findall(r"\.\[([\w,]+)\]", " ".join(words)):
        assert set(extras.split(",")) <= set(known), words


@contextlib.contextmanager
def own_modules() -> Iterator[None]:
    """Forgets the modules that were imported from the current folder, as a new process does."""
    path, folder = [*sys.path], os.getcwd()
    try:
        yield
    finally:
        sys.path[:] = path
        for name, module in [*sys.modules.items()]:
            if str(getattr(module, "__file__", "") or "").startswith(f"{folder}{os.sep}"):
                del sys.modules[name]
