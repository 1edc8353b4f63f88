"""Which site gets which jump: a default, and rules that match sites by name."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from jr_onnx.arguments import as_list
from jr_onnx.conversion.element_types import DOUBLE, NUMPY_TYPES, round_jump, type_name
from jr_onnx.errors import OptionError
from jr_onnx.text import _DIGITS, count


def jump_text(jump: Jump, element_type: str) -> str:
    """A jump, as the shortest decimal that is the same in a type; of many, one a channel, the range and the number.

    Args:
        element_type: the type, as `type_name` gives it; Python's own where it is none of JumpReLU's four.
    """
    if isinstance(jump, tuple):
        lowest, highest = (jump_text(number, element_type) for number in (min(jump), max(jump)))
        return f"{lowest} to {highest} ({count(len(jump), 'channel')})"
    known = next((one for one in NUMPY_TYPES if type_name(one) == element_type), DOUBLE)
    for digits in range(1, _DIGITS + 1):
        short = float(f"{jump:.{digits}g}")
        with contextlib.suppress(OptionError):  # rounded up beyond the type, or no jump at all in a damaged file
            if round_jump(short, known) == round_jump(jump, known):
                return repr(short).removesuffix(".0")
    return repr(jump).removesuffix(".0")


#: One number, or one number a channel.
Jump = float | tuple[float, ...]


def matches(pattern: str, path: str, node_name: str) -> bool:
    """Whether a glob (`*`, `?`, `[abc]`; `*` crosses `/`) or a literal name is the node's name or its scope path."""
    return any(text and (text == pattern or fnmatchcase(text, pattern)) for text in (path, node_name))


@dataclass(frozen=True)
class PolicyRule:
    """What is done with the sites whose name or scope path `match` matches: a jump, or None to leave them alone."""

    match: str
    jump: Jump | None

    def __post_init__(self) -> None:
        if not isinstance(self.match, str) or not self.match:
            raise OptionError(f"`match`: {self.match!r} is no glob; give a name or a glob as a string")
        if self.jump is not None:
            object.__setattr__(self, "jump", as_jump(self.jump))


@dataclass(frozen=True)
class JumpReluPolicy:
    """A jump for every site.

    The first rule that matches a site decides; a site that none matches gets the default, or is left alone where
    there is none.

    Attributes:
        default: the jump of every site that no rule matches.
        rules: tried in order.
    """

    default: Jump | None = None
    rules: tuple[PolicyRule, ...] = field(default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "rules", as_list("rules", self.rules))
        for rule in self.rules:
            if not isinstance(rule, PolicyRule):
                raise OptionError(f"`rules`: {rule!r} is no jr_onnx.PolicyRule")
        if self.default is not None:
            object.__setattr__(self, "default", as_jump(self.default))

    def rule_for(self, path: str, node_name: str) -> PolicyRule | None:
        """The rule that decides about a site, if one does."""
        return next((rule for rule in self.rules if matches(rule.match, path, node_name)), None)

    def to_dict(self) -> dict[str, Any]:
        """The policy as its file says it."""
        rules = [{"match": r.match, **({"skip": True} if r.jump is None else {"jump": r.jump})} for r in self.rules]
        return {"default": self.default, "rules": rules}

    @property
    def digest(self) -> str:
        """SHA-256 of the policy's meaning, in hexadecimal: comments and layout of its file do not count."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()


def as_jump(value: object) -> Jump:
    """A number, or a list, tuple or array with one number a channel, as a jump.

    Raises:
        OptionError: it is none of these, or a number in it is negative or not finite.
    """
    plain = value.tolist() if hasattr(value, "tolist") else value  # NumPy's scalars and arrays
    if isinstance(plain, list | tuple):
        if not plain:
            raise OptionError("jump: an empty list; give one number a channel")
        return tuple(map(_as_number, plain))
    return _as_number(plain)


def _as_number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise OptionError(f"jump {value!r} is not a number; give a finite number >= 0")
    if not 0 <= value <= sys.float_info.max:
        raise OptionError(f"jump {value!r} must be a finite number >= 0")
    return float(value)


def as_policy(given: object) -> JumpReluPolicy:
    """A policy, or the one in a YAML file.

    Raises:
        OptionError: it is neither, or the file cannot be read.
    """
    if isinstance(given, (str, Path)):
        return read_policy(given)
    if not isinstance(given, JumpReluPolicy):
        raise OptionError(f"`policy`: {given!r} is neither a jr_onnx.JumpReluPolicy nor the name of a YAML file")
    return given


def read_policy(path: str | Path) -> JumpReluPolicy:
    """A policy from a YAML file.

        default: 0.5
        rules:
          - match: "layer1/*"
            jump: 0.2
          - match: "stem/Relu"
            jump: [0.1, 0.2, 0.3]     # one a channel
          - match: "head/*"
            skip: true

    Raises:
        OptionError: the file cannot be read, is not YAML, or has an unknown key or a value that makes no sense.

    Examples:
        >>> _ = pathlib.Path("policy.yaml").write_text("default: 0.5\\nrules: [{match: '/block1/*', jump: 0.2}]")
        >>> jr_onnx.read_policy("policy.yaml").rules
        (PolicyRule(match='/block1/*', jump=0.2),)
    """
    import yaml  # only who has a policy file pays for it

    try:
        content = yaml.load(Path(path).read_bytes(), Loader=_loader())
    except OSError as error:
        raise OptionError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        raise OptionError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    try:
        return _parse(content)
    except OptionError as error:
        raise OptionError(f"{path}: {error}") from error


@cache
def _loader() -> type[Any]:
    """PyYAML's SafeLoader, for which 1e-3 is a number, as in YAML 1.2, and a key that is there twice is an error."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            keys = [key.value for key, _ in node.value]
            for key, _ in node.value:
                if keys.count(key.value) > 1:
                    raise yaml.constructor.ConstructorError(None, None, f"'{key.value}' is given twice", key.start_mark)
            return super().construct_mapping(node, deep)

    number = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789"))
    return Loader


def policy_text(policy: JumpReluPolicy, comment: str = "") -> str:
    """The policy as a YAML file that `read_policy` reads; the comment's lines stand in front."""
    import yaml

    content = {key: value for key, value in json.loads(json.dumps(policy.to_dict())).items() if value not in (None, [])}
    lines = "".join(f"# {line}\n" for line in comment.splitlines())
    return lines + str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _parse(content: object) -> JumpReluPolicy:
    policy = _mapping(content, "the policy", ("default", "rules"))
    rules = policy.get("rules") or []
    if not isinstance(rules, list):
        raise OptionError("rules: must be a list of 'match:' entries")
    parsed = tuple(_parse_rule(rule, f"rule {number}") for number, rule in enumerate(rules, 1))
    default = policy.get("default")
    if default is None and not parsed:
        raise OptionError("the policy has neither a default nor a rule; write 'default: 0.5'")
    return JumpReluPolicy(None if default is None else as_jump(default), parsed)


def _parse_rule(content: object, where: str) -> PolicyRule:
    rule = _mapping(content, where, ("match", "jump", "skip"))
    match = rule.get("match")
    if not isinstance(match, str) or not match:
        raise OptionError(f"{where}: needs 'match:' with a name or a glob")
    skip = rule.get("skip", False)
    if not isinstance(skip, bool):
        raise OptionError(f"{where}: skip: must be true or false, not {skip!r}")
    if skip == ("jump" in rule):
        raise OptionError(f"{where}: give either 'jump:' or 'skip: true'")
    return PolicyRule(match, None if skip else as_jump(rule["jump"]))


def _mapping(content: object, where: str, keys: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(content, dict):
        raise OptionError(f"{where}: must be a mapping with {' or '.join(keys)}")
    for key in content:
        if key not in keys:
            raise OptionError(f"{where}: unknown key {key!r}{did_you_mean(str(key), keys)}; it knows {', '.join(keys)}")
    return content


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """ " (did you mean 'x' or 'y'?)" with the nearest known names; empty where none is near."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f" (did you mean {' or '.join(repr(n) for n in near)}?)" if near else ""
