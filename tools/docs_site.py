"""The documentation as a website: `python tools/docs_site.py` builds it into build/site, and fails on a broken link.

The pages are the Markdown files of the repository, with links that hold in the site. The references of the command line
and of the Python interface are written here, from the parsers and the docstrings.
"""

from __future__ import annotations

import argparse
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jr_onnx
from jr_onnx.cli.main import COMMANDS, build_parser

ROOT = Path(__file__).resolve().parents[1]
STAGED = ROOT / "build" / "pages"

#: Pages that stand outside of docs/, and their names in the site.
ELSEWHERE = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "examples/README.md": "examples.md",
    "benchmarks/README.md": "benchmarks.md",
    "models/README.md": "models.md",
    "custom_ops/README.md": "custom_ops.md",
    "tests/corpus/README.md": "corpus.md",
}

#: Public modules beside jr_onnx itself.
MODULES = ("jr_onnx.graphsurgeon", "jr_onnx.reference")


def page_names() -> dict[Path, str]:
    """Each page in the repository, and its name in the site."""
    names = {path: path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").glob("*.md")}
    return names | {ROOT / path: name for path, name in ELSEWHERE.items()}


def relinked(text: str, page: Path, names: dict[Path, str]) -> str:
    """A page's text, with links that hold in the site.

    A file's name as the words of a link becomes the page's title. Of a link to a file that is no page the words remain.
    """

    def placed(target: str) -> str:
        path = (page.parent / target).resolve()
        if not path.exists():
            sys.exit(f"{page}: there is no {target}")
        if path in names:
            return names[path]
        return path.relative_to(ROOT / "docs").as_posix() if path.is_relative_to(ROOT / "docs") else ""

    def link(found: re.Match[str]) -> str:
        words, target, anchor = found.groups(default="")
        place = placed(target)
        if words.endswith(".md") and place:
            words = _title((page.parent / target).resolve())
        return f"[{words}]({place}{anchor})" if place else words

    text = re.sub(r"\[([^]]*)]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)", link, text)
    return re.sub(r'(src|srcset)="(?!https?:)([^"]+)"', lambda found: f'{found[1]}="{placed(found[2])}"', text)


def _title(page: Path) -> str:
    return page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def command_reference() -> str:
    """The page of the command line, from its parsers."""
    lines = [
        "# Command line",
        "",
        "Every command, with all that it takes. Exit codes: 0 done; 1 findings (`check`), or a self-test that fails",
        "(`info`); 2 a mistake in the command or its input, in one line on stderr; 3 a bug.",
    ]
    for command in COMMANDS:
        parser = _subparser(command)
        usage = parser.format_usage().removeprefix("usage: ").rstrip()
        lines += ["", f"## jr-onnx {command}", "", _cell(parser.description or ""), "", "```text", usage, "```"]
        for group in parser._action_groups:
            actions = [action for action in group._group_actions if action.dest != "help"]
            if actions:
                lines += ["", f"| {group.title} | |", "|---|---|"]
                lines += [_row(parser, action) for action in actions]
    return "\n".join(lines) + "\n"


def _subparser(command: str) -> argparse.ArgumentParser:
    choices = [action.choices for action in build_parser(command)._actions if isinstance(action.choices, dict)]
    parser: argparse.ArgumentParser = choices[0][command]
    return parser


def _row(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    formatter = parser._get_formatter()
    shown = re.sub(
        r",(?=\S)", ", ", formatter._format_action_invocation(action)
    )  # so that a line can end between choices
    return f"| `{shown}` | {_cell(formatter._expand_help(action))} |"


def _cell(text: str) -> str:
    """Text of a help message as Markdown: nothing but backticks is markup."""
    return re.sub(r"([\\*_{}\[\]>|#])", r"\\\1", " ".join(text.split())).replace("<", "&lt;")


def interface_reference() -> str:
    """The page of the Python interface, which mkdocstrings fills in from the docstrings."""
    names = [name for name in jr_onnx.__all__ if name != "__version__"]
    things = {name: getattr(jr_onnx, name) for name in names}
    errors = [name for name, thing in things.items() if inspect.isclass(thing) and issubclass(thing, Exception)]
    functions = [name for name, thing in things.items() if inspect.isfunction(thing)]
    rest = [name for name in names if name not in {*errors, *functions}]
    lines = [
        "# Python",
        "",
        "What `import jr_onnx` gives. Reports are frozen dataclasses; a mistake in the input is a `JrOnnxError`.",
    ]
    for title, members in (("Functions", functions), ("Classes", rest), ("Errors", errors)):
        lines += ["", f"## {title}", *(f"\n::: jr_onnx.{name}" for name in members)]
    lines += ["", "## Modules", *(f"\n::: {name}" for name in MODULES)]
    return "\n".join(lines) + "\n"


def stage() -> None:
    """Write all pages into build/pages."""
    shutil.rmtree(STAGED, ignore_errors=True)
    shutil.copytree(ROOT / "docs", STAGED, ignore=shutil.ignore_patterns("*.md"))
    names = page_names()
    for page, name in names.items():
        (STAGED / name).write_text(relinked(page.read_text(encoding="utf-8"), page, names), encoding="utf-8")
    (STAGED / "cli.md").write_text(command_reference(), encoding="utf-8")
    (STAGED / "api.md").write_text(interface_reference(), encoding="utf-8")
    nav = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    if missing := sorted(path.name for path in STAGED.glob("*.md") if f'"{path.name}"' not in nav):
        sys.exit(f"zensical.toml: nav lacks {', '.join(missing)}")


if __name__ == "__main__":
    os.environ["COLUMNS"] = "100"  # argparse wraps at the terminal's width
    stage()
    sys.exit(subprocess.run([sys.executable, "-m", "zensical", "build", "--strict"], cwd=ROOT).returncode)
