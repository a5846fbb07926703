"""A command on a terminal of its own, in a process that `forking` has made."""

import os
import pty
import signal
import sys
from pathlib import Path

import forking
from mgd.cli import main


def run(words, columns, at, typed):
    """Runs a command, and writes what it showed to the file `screen`; ends with its code."""
    child, terminal = pty.fork()
    if not child:
        # As in a terminal's own shell; a job in the background of a script is born deaf to it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.update(COLUMNS=str(columns), LINES="24", TERM="xterm")
        sys.stdout, sys.stderr = open(1, "w"), open(2, "w")  # noqa: SIM115
        code = 70
        try:
            code = main(words)
            sys.stdout.flush()
        finally:
            os._exit(code)
    content = b""
    try:
        while piece := os.read(terminal, 4096):
            content += piece
            if typed and at.encode() in content:
                os.write(terminal, typed.encode())
                typed = ""
    except OSError:  # Linux's word for the end of a terminal
        pass
    Path("screen").write_bytes(content)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def show(folder, *words, columns=80, at="", typed=""):
    """Returns the exit code of a command, and all that it showed on its terminal.

    Args:
        folder: Where it runs.
        words: Of its command line.
        columns: Of the terminal.
        at, typed: As soon as it has shown this, that is typed; `\\x03` is Control-C.
    """
    process = forking.start(run, folder, [str(word) for word in words], columns, at, typed)
    code = forking.end_of(process, folder)
    return code, (Path(folder) / "screen").read_text()
