"""The Python interface given one value where it takes several, or a name where it takes what the name stands for."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import MODELS

import jr_onnx
from jr_onnx import JumpReluPolicy, OptionError, PolicyRule

DIGITS, IMAGES = MODELS / "digits.onnx", MODELS / "digits_test.npz"


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("hard") / "hard.onnx"
    jr_onnx.convert(DIGITS, jump=0.5, output=output)
    return output


def convert(**options: Any) -> Any:
    return jr_onnx.convert(DIGITS, dry_run=True, **{"jump": 0.5, **options})


def check(hard: Path, **options: Any) -> Any:
    return jr_onnx.check(DIGITS, hard, **options)


def evaluate(hard: Path, **options: Any) -> Any:
    return jr_onnx.evaluate(DIGITS, hard, IMAGES, **{"eps": 0.1, "attacks": ["square"], **options})


def tune(_: Path, **options: Any) -> Any:
    return jr_onnx.tune(DIGITS, IMAGES, objective="clean", **options)


ONE_FOR_SEVERAL: list[tuple[Callable[..., Any], str, Any]] = [
    (lambda _, **options: convert(**options), "include", "*"),
    (lambda _, **options: convert(**options), "exclude", "/block1/*"),
    (check, "include", "*"),
    (check, "exclude", "*"),
    (check, "providers", "CPUExecutionProvider"),
    (lambda hard, **options: jr_onnx.session(hard, **options), "providers", "CPUExecutionProvider"),
    (lambda hard, **options: jr_onnx.session(hard, optimize=True, **options), "providers", "CPUExecutionProvider"),
    (lambda _, **options: jr_onnx.bench(**options), "models", str(DIGITS)),
    (lambda hard, **options: jr_onnx.bench([hard], **options), "batches", 8),
    (lambda hard, **options: jr_onnx.bench([hard], **options), "threads", 2),
    (evaluate, "eps", "0.1"),
    (evaluate, "attacks", "square"),
    (tune, "grid", 0.5),
    (tune, "grid", "0.1,0.5"),
    (tune, "quantiles", 0.5),
    (lambda _, **options: JumpReluPolicy(0.5, **options), "rules", PolicyRule("*", 0.2)),
]


@pytest.mark.parametrize(("call", "name", "value"), ONE_FOR_SEVERAL)
def test_one_value_where_several_are_taken_is_named(
    call: Callable[..., Any], name: str, value: Any, hard: Path
) -> None:
    with pytest.raises(OptionError) as raised:
        call(hard, **{name: value})
    assert str(raised.value) == f"`{name}`: {value!r} is one value, and a list of them is needed: {name}=[{value!r}]"


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda _: convert(jump_input=True), "`jump_input`: True is not a name; give one as a string"),
        (lambda hard: check(hard, jump_input=True), "`jump_input`: True is not a name; give one as a string"),
        (lambda _: convert(jump="0.5"), "jump '0.5' is not a number"),
        (lambda _: convert(jump=None, policy={"default": 0.5}), "`policy`: {'default': 0.5} is neither a jr_onnx.Jump"),
        (lambda hard: check(hard, policy=0.5), "`policy`: 0.5 is neither a jr_onnx.JumpReluPolicy nor the name of a"),
        (lambda hard: check(hard, shapes="image=1,1,8,8"), "`shapes`: 'image=1,1,8,8' has no names; give shapes={"),
        (lambda hard: check(hard, shapes={"image": 1}), "`shapes['image']`: 1 is one value, and a list of them"),
        (lambda hard: check(hard, shapes={"image": "1,1,8,8"}), "`shapes['image']`: '1,1,8,8' is one value"),
        (lambda hard: jr_onnx.bench([hard], shapes={"image": "1"}), "`shapes['image']`: '1' is one value"),
        (
            lambda _: tune(_, attacks="pgd"),
            "`attacks`: 'pgd' is no jr_onnx.Attack",
        ),
        (lambda _: JumpReluPolicy(0.5, rules=("*",)), "`rules`: '*' is no jr_onnx.PolicyRule"),  # type: ignore[arg-type]
        (lambda _: PolicyRule(("a", "b"), 0.5), "`match`: ('a', 'b') is no glob"),  # type: ignore[arg-type]
    ],
)
def test_another_thing_than_is_taken_is_named(call: Callable[[Path], Any], complaint: str, hard: Path) -> None:
    with pytest.raises(OptionError) as raised:
        call(hard)
    assert str(raised.value).startswith(complaint)


#: Functions that take data, from which they take the same.
TAKERS: dict[str, Callable[[Path, Any], Any]] = {
    "check": lambda hard, data: check(hard, data=data),
    "optimize": lambda hard, data: jr_onnx.optimize(hard, data=data),
    "bench": lambda hard, data: jr_onnx.bench([hard], data=data),
    "tune": lambda _, data: jr_onnx.tune(DIGITS, data, objective="clean"),
    "evaluate": lambda hard, data: jr_onnx.evaluate(DIGITS, hard, data, eps=0.1),
    "load_data": lambda _, data: jr_onnx.load_data(data),
}


@pytest.mark.parametrize("name", TAKERS)
@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        *(
            (one, "`data`: the name of a file, (x, y), or {'NAME': array} is needed, and this is of type ")
            for one in (np.zeros(3), [1], b"x", object())
        ),
        ("none.npz", "none.npz: no such file or folder; give an NPZ or NPY file, a folder, or module:function"),
        ((1, 2, 3), "data: gives 3 values; give (x, y), or a mapping with x, y, mean and std"),
    ],
)
def test_what_cannot_be_data_is_named_alike(data: Any, complaint: str, name: str, hard: Path) -> None:
    with pytest.raises(OptionError) as raised:
        TAKERS[name](hard, data)
    assert str(raised.value).startswith(complaint)


FILE, MODEL = "the name of a file (a string or a pathlib.Path)", "an onnx.ModelProto or the name of a file"

#: Functions of the interface with what they need -> parameters of theirs, and what each takes.
WANTED: list[tuple[Callable[..., Any], dict[str, str]]] = [
    (
        lambda _, **given: jr_onnx.convert(**{"model": DIGITS, "jump": 0.5, "dry_run": True, **given}),
        {"model": MODEL, "output": FILE},
    ),
    (
        lambda hard, **given: jr_onnx.check(**{"original": DIGITS, "hardened": hard, "run": False, **given}),
        {"original": MODEL, "hardened": MODEL, "random_inputs": "an integer"},
    ),
    (lambda _, **given: jr_onnx.inspect(**given), {"model": MODEL}),
    (lambda _, **given: jr_onnx.find_sites(**given), {"model": MODEL}),
    (
        lambda hard, **given: jr_onnx.diff(**{"original": DIGITS, "hardened": hard, **given}),
        {"original": MODEL, "hardened": MODEL},
    ),
    (
        lambda hard, **given: jr_onnx.deploy(
            **{"model": hard, "server": "triton", "output": hard.parent / "out", "library": False, **given}
        ),
        {"model": FILE, "output": FILE, "mount": FILE, "max_batch_size": "an integer"},
    ),
    (lambda hard, **given: jr_onnx.optimize(**{"model": hard, **given}), {"model": FILE, "output": FILE}),
    (lambda hard, **given: jr_onnx.bench(**{"models": [hard], **given}), {"rounds": "an integer"}),
    (
        lambda hard, **given: jr_onnx.session(**{"path": hard, **given}),
        {"path": FILE, "library": FILE, "session_options": "an onnxruntime.SessionOptions"},
    ),
    (lambda _, **given: jr_onnx.register(**given), {"session_options": "an onnxruntime.SessionOptions"}),
    (lambda _, **given: jr_onnx.placement(**given), {"session": "an onnxruntime.InferenceSession"}),
    (
        lambda _, **given: jr_onnx.tune(**{"model": DIGITS, "data": IMAGES, "objective": "clean", **given}),
        {"model": MODEL, "max_drop": "a number", "test_share": "a number", "seed": "an integer"},
    ),
    (
        lambda hard, **given: evaluate(**{"hard": hard, **given}),
        {
            "effort": "a jr_onnx.Effort",
            "seed": "an integer",
            "workers": "an integer",
            "journal": FILE,
        },
    ),
    (
        lambda hard, **given: jr_onnx.evaluate(
            **{"original": DIGITS, "hardened": hard, "data": IMAGES, "eps": 0.1, **given}
        ),
        {"original": MODEL, "hardened": MODEL},
    ),
]


@pytest.mark.parametrize(
    ("call", "name", "wanted"), [(call, name, wanted) for call, taken in WANTED for name, wanted in taken.items()]
)
def test_an_argument_of_another_type_is_named_with_what_is_needed(
    call: Callable[..., Any], name: str, wanted: str, hard: Path
) -> None:
    for given in ([1], {1: 2}, b"x", object()):
        with pytest.raises(OptionError) as raised:
            call(hard, **{name: given})
        assert str(raised.value) == f"`{name}`: {wanted} is needed, and this is of type {type(given).__name__}"


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda _: convert(include=[1]), "`include`: a string is needed, and this is of type int"),
        (lambda hard: check(hard, exclude=[1]), "`exclude`: a string is needed, and this is of type int"),
        (lambda hard: check(hard, providers=[1]), "`providers`: a string is needed, and this is of type int"),
        (
            lambda hard: check(hard, random_inputs=1.5),
            "`random_inputs`: an integer is needed, and this is of type float",
        ),
        (
            lambda hard: check(hard, random_inputs=True),
            "`random_inputs`: an integer is needed, and this is of type bool",
        ),
        (lambda hard: jr_onnx.bench([hard, 1]), f"`models`: {FILE} is needed, and this is of type int"),
        (lambda hard: jr_onnx.bench([hard], batches=["1"]), "`batches`: an integer is needed, and this is of type str"),
        (
            lambda hard: jr_onnx.bench([hard], threads=[1.5]),
            "`threads`: an integer is needed, and this is of type fl",
        ),
        (
            lambda hard: jr_onnx.bench([hard], provider=None),
            "`provider`: a string is needed, and this is of type No",
        ),
        (
            lambda hard: jr_onnx.session(hard, providers=[1]),
            "`providers`: a provider's name, or a pair of it and",
        ),
        (
            lambda hard: jr_onnx.deploy(hard, "triton", hard.parent / "out", name=1),
            "`name`: 1 is not a name; give one as",
        ),
        (lambda hard: jr_onnx.optimize(hard, level=["all"]), "`provider` cpu takes a `level` of basic, extended, all"),
        (
            lambda hard: evaluate(hard, executor=1),
            "`executor`: a concurrent.futures.Executor is needed, and this is",
        ),
        (lambda hard: tune(hard, executor=1), "`executor`: a concurrent.futures.Executor is needed, and this is"),
        (
            lambda _: jr_onnx.session(jr_onnx.convert(DIGITS, jump=1, dry_run=True)),
            f"`path`: {FILE} is needed, and this",
        ),
    ],
)
def test_what_else_is_of_another_type_is_named(call: Callable[[Path], Any], complaint: str, hard: Path) -> None:
    with pytest.raises(OptionError) as raised:
        call(hard)
    assert str(raised.value).startswith(complaint)


def test_numbers_of_numpy_and_other_paths_are_taken(hard: Path) -> None:
    class Named:
        def __fspath__(self) -> str:
            return str(hard)

    report = check(hard, random_inputs=np.int64(1), run=False)
    assert not report.findings
    assert jr_onnx.inspect(Named()).nodes == jr_onnx.inspect(hard).nodes  # type: ignore[arg-type]


def test_files_are_taken_by_name_where_what_is_in_them_is_taken(hard: Path, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("default: 0.5\n")
    np.savez(tmp_path / "x.npz", image=np.load(IMAGES)["x"][:3])
    policy = jr_onnx.read_policy(str(tmp_path / "p.yaml"))
    for given in (policy, tmp_path / "p.yaml", str(tmp_path / "p.yaml")):
        assert convert(jump=None, policy=given).sites == convert().sites
    for given in (tmp_path / "x.npz", str(tmp_path / "x.npz")):
        report = check(hard, data=given, policy=str(tmp_path / "p.yaml"))
        assert not report.findings, report.findings
    np.savez(tmp_path / "y.npz", picture=np.zeros(3, np.float32))
    with pytest.raises(OptionError, match="picture"):
        check(hard, data=tmp_path / "y.npz")


def test_lists_of_every_kind_are_taken() -> None:
    expected = convert(include=["*"]).sites
    for several in (("*",), np.array(["*"]), {"*"}, iter(["*"])):
        assert convert(include=several).sites == expected
    assert JumpReluPolicy(0.5, rules=[PolicyRule("*", 0.2)]) == JumpReluPolicy(0.5, (PolicyRule("*", 0.2),))  # type: ignore[arg-type]


def test_every_argument_of_the_interface_that_takes_several_is_tried_here() -> None:
    tried = {name for _, name, _ in ONE_FOR_SEVERAL} | {"shapes", "mean", "std"}  # one mean is that of all channels
    for name in jr_onnx.__all__:
        function = getattr(jr_onnx, name)
        if not inspect.isfunction(function):
            continue
        for parameter in inspect.signature(function).parameters.values():
            if "Sequence[" in str(parameter.annotation):
                assert parameter.name in tried, f"{name}({parameter.name})"
