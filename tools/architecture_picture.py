"""Draws docs/architecture.svg: the rooms of the package as `[tool.importlinter]` in pyproject.toml stacks them.

Run it after a room or a module has come or gone: `python tools/architecture_picture.py`.
"""

from __future__ import annotations

import ast
import html
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "architecture.svg"
_PACKAGE = ROOT / "jr_onnx"
_WIDTH, _GAP, _LINE, _PAD = 1000, 12, 17, 14
_CHARACTER = 6.6  # of the monospaced text, in pixels

_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
.name { font-weight: 600; font-size: 15px; }
.modules { font: 11px ui-monospace, monospace; fill: #59636e; }
rect { fill: #f6f8fa; stroke: #8c959f; rx: 6px; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; } .modules { fill: #9198a1; } rect { fill: #151b23; stroke: #656c76; }
}
"""


def layers() -> list[list[str]]:
    """The rooms and loose modules, the highest first; what stands in one row does not import each other."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    rows = next(one["layers"] for one in contracts if one["type"] == "layers")
    return [[name.strip() for name in row.split("|")] for row in rows if row != "__main__"]


def picture() -> str:
    """The picture as SVG text."""
    top, parts = _GAP, []
    for row in layers():
        width = (_WIDTH - _GAP * (len(row) + 1)) / len(row)
        rooms = [_texts(name, width) for name in row]
        height = 2 * _PAD + _LINE * max(map(len, rooms))
        for number, lines in enumerate(rooms):
            left = _GAP + number * (width + _GAP)
            parts.append(f'<rect x="{left:g}" y="{top:g}" width="{width:g}" height="{height:g}"/>')
            for line, (kind, text) in enumerate(lines):
                at = f'x="{left + _PAD:g}" y="{top + _PAD + _LINE * line + 12:g}"'
                parts.append(f'<text class="{kind}" {at}>{html.escape(text)}</text>')
        top += height + _GAP
    size = f'width="{_WIDTH}" height="{top:g}" viewBox="0 0 {_WIDTH} {top:g}"'
    title = "<title>The rooms of jr_onnx; imports run downwards only</title>"
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n{title}<style>{_STYLE}</style>\n' + "\n".join(
        [*parts, "</svg>\n"]
    )


def _texts(name: str, width: float) -> list[tuple[str, str]]:
    """The lines of a box: the name, what lives there, and the modules in it."""
    room = _PACKAGE / name
    file = room / "__init__.py" if room.is_dir() else room.with_suffix(".py")
    purpose = (ast.get_docstring(ast.parse(file.read_text())) or "").splitlines()[0].rstrip(".")
    lines = [("name", name), *(("purpose", text) for text in _wrapped(purpose, width - 2 * _PAD))]
    if room.is_dir():
        folders = sorted(one.parent for one in room.glob("*/__init__.py"))
        listed = [" ".join(_names(room)), *(f"{one.name}: {' '.join(_names(one))}" for one in folders)]
        lines += (("modules", text) for line in listed if line for text in _wrapped(line, width - 2 * _PAD))
    return lines


def _names(folder: Path) -> list[str]:
    return sorted(one.stem for one in folder.glob("*.py") if one.stem != "__init__")


def _wrapped(text: str, width: float) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if len(longer) * _CHARACTER <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


if __name__ == "__main__":
    PICTURE.write_text(picture())
