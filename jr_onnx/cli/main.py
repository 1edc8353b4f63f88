"""`jr-onnx`: the commands, and what an error looks like.

Exit codes: 0 done; 1 findings (`check`), or a self-test that fails (`info`); 2 a mistake of the user, in one line on
stderr; 3 internal error (`check`); 130 interrupted, 143 by SIGTERM. A bug keeps its traceback.
"""

from __future__ import annotations

import argparse
import difflib
import errno
import importlib
import io
import itertools
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from jr_onnx.cli.outputs import in_options
from jr_onnx.errors import JrOnnxError
from jr_onnx.text import printable
from jr_onnx.version import __version__

USAGE_ERROR, INTERRUPTED = 2, 130

#: Each is a module of this package with HELP, DESCRIPTION, `add_arguments` and `run`.
COMMANDS = ("convert", "revert", "inspect", "check", "diff", "tune", "evaluate", "deploy", "optimize", "bench", "info")


#: What writing to a full disk, past a quota or to a broken device ends with; of a file, it would have a name.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong; the usage is a --help away."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"{self.prog}: {message} (see {self.prog} --help)\n")


class _PrintCompletion(argparse.Action):
    """Prints the completion script of a shell."""

    def __call__(
        self, parser: argparse.ArgumentParser, _: object, shell: object, option: str | None = None
    ) -> NoReturn:
        from jr_onnx.cli.arguments import named

        try:
            import shtab
        except ImportError:
            parser.error(f"{option} needs shtab; pip install shtab")
        for command in _commands(parser).values():
            for action in command._actions:
                if action.type in (Path, named):
                    action.complete = shtab.DIRECTORY if action.metavar == "DIR" else shtab.FILE
        print(shtab.complete(parser, str(shell)), flush=True)
        parser.exit()


def _commands(parser: argparse.ArgumentParser) -> Mapping[str, Any]:
    return next(action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction))


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser of the whole command line, or of one command."""
    parser = _Parser(
        prog="jr-onnx",
        description="Put JumpReLU in place of ReLU in exported ONNX models. What that buys against attacks, and "
        "what it does not, is in the README; measure before you rely on it.",
    )
    parser.add_argument(
        "--print-completion",
        choices=("bash", "zsh", "tcsh"),
        action=_PrintCompletion,
        help="print what completes commands, options and files in this shell (needs shtab)",
    )
    parser.add_argument("--version", action="version", version=f"jr-onnx {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    for name in COMMANDS if command is None else (command,):
        module = importlib.import_module(f"jr_onnx.cli.{name}")
        added = commands.add_parser(name, help=module.HELP, description=module.DESCRIPTION)
        module.add_arguments(added)
        added.add_argument("--json", action="store_true", help="print the report as JSON")
        added.add_argument("-q", "--quiet", action="store_true", help="print no progress, and no report but as JSON")
        added.set_defaults(handler=module.run, parser=added)
    return parser


def _near(name: str, known: Sequence[str]) -> str:
    bare = {one.lstrip("-"): one for one in known}  # the dashes, which all options have, make none alike
    near = difflib.get_close_matches(name.lstrip("-"), list(bare), n=1, cutoff=0.7)
    return f" (did you mean {bare[near[0]]}?)" if near else ""


def _refuse(command: argparse.ArgumentParser, unknown: Sequence[str]) -> NoReturn:
    options = list(command._option_string_actions)
    near = _near(unknown[0].partition("=")[0], options) if unknown[0].startswith("--") else ""
    command.error(f"unrecognized arguments: {' '.join(unknown)}{near}")


def _mistyped(command: argparse.ArgumentParser, words: Sequence[str]) -> list[str]:
    """The options among the words that the command does not have, in full or by their beginning."""
    options = tuple(command._option_string_actions)
    typed = [word for word in itertools.takewhile(lambda word: word != "--", words) if word.startswith("--")]
    return [
        word for word in typed if " " not in word and not any(one.startswith(word.partition("=")[0]) for one in options)
    ]


def _parse(given: Sequence[str]) -> argparse.Namespace | None:
    """What was asked for; None where help was all that could be given."""
    # The modules of the other commands are not imported, which would take longer than many a conversion.
    parser = build_parser(given[0] if given and given[0] in COMMANDS else None)
    if not given:
        parser.print_help()
        return None
    if not given[0].startswith("-") and given[0] not in COMMANDS:
        parser.error(f"there is no command {given[0]!r}{_near(given[0], COMMANDS)}")
    if given[0] in COMMANDS:
        command = _commands(parser)[given[0]]
        # First of all: argparse would say that --jump is missing, where --jmup was typed.
        if mistyped := _mistyped(command, given[1:]):
            _refuse(command, mistyped)
    parsed, unknown = parser.parse_known_args(given)
    if unknown:
        _refuse(parsed.parser, unknown)
    return parsed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    try:
        parsed = _parse(sys.argv[1:] if arguments is None else arguments)
    except BrokenPipeError:
        _close_stdout()
        return 0
    return 0 if parsed is None else _run(parsed)


def _run(parsed: argparse.Namespace) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names may have characters that the terminal has not
    received: list[int] = []
    try:
        with _ended_by_signals(received):
            code: int = parsed.handler(parsed)
            if sys.stdout is not None:  # it may be closed: >&-
                sys.stdout.flush()
    except JrOnnxError as error:
        print(printable(f"jr-onnx {parsed.command}: {in_options(str(error), parsed.parser)}"), file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        print(f"jr-onnx {parsed.command}: interrupted, nothing was written", file=sys.stderr)
        code = INTERRUPTED
    except BrokenPipeError:
        _close_stdout()  # the reader of the output has closed it
        return 0
    except OSError as error:
        if error.filename is not None or error.errno not in _FULL:
            raise
        _close_stdout()
        print(f"jr-onnx {parsed.command}: the output cannot be written: {error.strerror}", file=sys.stderr)
        return USAGE_ERROR
    return 128 + received[0] if received and code == INTERRUPTED else code


@contextmanager
def _ended_by_signals(received: list[int]) -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a command as Ctrl-C does: temporary files are removed, and worker processes end."""

    def end(number: int, _: object) -> NoReturn:
        received.append(number)
        raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # What is ignored (nohup) or handled by a program that calls `main` stays so, and threads handle no signals.
    free = [one for one in numbers if signal.getsignal(one) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        free = []
    for one in free:
        signal.signal(one, end)
    try:
        yield
    finally:
        for one in free:
            signal.signal(one, signal.SIG_DFL)


def _close_stdout() -> None:
    """Keep the interpreter from complaining at exit of what it cannot write."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
