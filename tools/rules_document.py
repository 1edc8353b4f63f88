"""docs/rules.md, written from the table: `python tools/rules_document.py > docs/rules.md`."""

from __future__ import annotations

from jr_onnx.checking.rules import RULES

_FAMILIES = {
    "JR0": "About the check itself",
    "JR1": "Structure: nothing but the sites changed",
    "JR2": "Validity, as ONNX sees it",
    "JR3": "Numbers, site by site",
    "JR4": "Numbers, the whole model",
    "JR5": "Running",
}


def document() -> str:
    """docs/rules.md."""
    lines = [
        "# Rules of `jr-onnx check`",
        "",
        "IDs are stable: a rule may be retired, its ID is not given to another. Written from the table in",
        "`jr_onnx/checking/rules.py` by `python tools/rules_document.py > docs/rules.md`.",
    ]
    for family, title in _FAMILIES.items():
        lines += ["", f"## {title}"]
        for rule in RULES.values():
            if rule.id.startswith(family):
                lines += ["", f"### {rule.id} {rule.name} ({rule.severity})", ""]
                lines += [rule.means, "", f"- Why it matters: {rule.why}", f"- How to fix it: {rule.fix}"]
    return "\n".join(lines)


if __name__ == "__main__":
    print(document())
