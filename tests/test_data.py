"""`--data` takes the same in all commands that have it, means the same, and is refused in the same words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from outcome import Outcome, refusal
from PIL import Image
from support import DOUBLE, FLOAT, MODELS, make_model, node, value

import jr_onnx
from jr_onnx.runtime.data.loading import load_data, read_data
from jr_onnx.runtime.execution import Session, Way
from jr_onnx.runtime.inputs import MOST_SAMPLES, Sampler

DIGITS = MODELS / "digits.onnx"
HARD = "hard.onnx"
TEST = dict(np.load(MODELS / "digits_test.npz"))
X, Y = TEST["x"][:40].astype(np.float32), TEST["y"][:40]
PIXELS = np.rint(X * 255).astype(np.uint8)

#: The commands with --data, as short as they can be.
COMMANDS = {
    "check": (DIGITS, HARD, "--no-library"),
    "optimize": (HARD, "-o", "fast.onnx"),
    "bench": (DIGITS, HARD, "--rounds", "2"),
    "evaluate": (DIGITS, HARD, "--attacks", "square", "--queries", "1", "--restarts", "1", "--journal", "j"),
    "tune": (DIGITS, "--objective", "clean", "--grid", "0.1"),
}


def folder_of_images(name: str) -> None:
    for number, (image, label) in enumerate(zip(PIXELS, Y, strict=True)):
        (Path(name) / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(Path(name) / str(label) / f"{number:02}.png")


#: What --data may be -> what makes it.
FORMS: dict[str, Callable[[str], object]] = {
    "samples.npz": lambda name: np.savez(name, x=X, y=Y),
    "named.npz": lambda name: np.savez(name, image=X, y=Y),
    "pixels.npz": lambda name: np.savez(name, x=PIXELS, y=Y),
    "normalised.npz": lambda name: np.savez(name, x=PIXELS, y=Y, mean=0.5, std=0.25),
    "samples.npy": lambda name: np.save(name, X),
    "images": folder_of_images,
    "some_data:pair": lambda _: Path("some_data.py").write_text(
        "import numpy\ndef pair():\n    found = numpy.load('pair.npz')\n    return found['x'], found['y']\n"
    ),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with a hardened model."""
    jr_onnx.convert(DIGITS, jump=0.5, output=tmp_path / HARD)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_every_form(command: str, form: str, folder: Path) -> None:
    np.savez("pair.npz", x=X, y=Y)
    FORMS[form](form)
    done = Outcome(folder, (command, *COMMANDS[command], "--data", form))
    assert (done.code, done.err) == (0, "")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("form", FORMS)
def test_a_model_is_fed_what_attacks_start_from(form: str) -> None:
    np.savez("pair.npz", x=X, y=Y)
    FORMS[form](form)
    session = Session(Path(HARD), Way("CPUExecutionProvider", library=False))
    fed = np.concatenate([one.feeds["image"] for one in Sampler(session, {}, read_data(form)).given()])
    dataset = load_data(form, classifier=jr_onnx.robustness.dataset.read_classifier(DIGITS))
    rows = np.arange(len(fed))
    np.testing.assert_array_equal(fed, dataset.normalise(dataset.batch(rows)), strict=True)
    assert len(fed) == (len(X) if form == "named.npz" else MOST_SAMPLES)  # what has its name is fed as it is


#: A file that does not fit -> what every command says.
UNFIT: dict[str, tuple[Callable[[str], object], str]] = {
    "none.npz": (lambda _: None, "no such file or folder; give an NPZ or NPY file, a folder, or module:function"),
    "text.npz": (lambda name: Path(name).write_text("x"), "not an NPZ file of plain arrays: File is not a zip file"),
    "text.npy": (lambda name: Path(name).write_text("x"), "not an NPY file of a plain array: "),
    "other.npz": (lambda name: np.savez(name, z=X), "has no array 'x' or 'image'; it has z"),
    "wide.npz": (
        lambda name: np.savez(name, x=X[..., :5], y=Y),
        "the samples have the shape [40, 1, 8, 5], the model takes [N, 1, 8, 8]",
    ),
    "last.npz": (lambda name: np.savez(name, x=X.transpose(0, 2, 3, 1), y=Y), "x.transpose(0, 3, 1, 2) would fit"),
    "integers.npz": (
        lambda name: np.savez(name, x=X.astype(np.int64), y=Y),
        "the samples are int64; store uint8 from 0 to 255, or float from 0 to 1",
    ),
    "mean.npz": (lambda name: np.savez(name, x=X, mean=128), "mean 128 is not in units of pixels from 0 to 1"),
    "nothing.npz": (lambda name: np.savez(name, x=X[:0]), "is empty: the samples have the shape [0, 1, 8, 8]"),
    "empty": (lambda name: Path(name).mkdir(), "no image in it; put images into one folder a class"),
    "no_module:pair": (lambda _: None, "ModuleNotFoundError: No module named 'no_module'"),
}


@pytest.mark.parametrize("form", UNFIT)
def test_what_does_not_fit_is_refused_in_the_same_words(form: str, folder: Path) -> None:
    make, message = UNFIT[form]
    make(form)
    said = {refusal(folder, command, *COMMANDS[command], "--data", form) for command in COMMANDS}
    assert len(said) == 1, said
    assert message in said.pop()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"image": PIXELS, "y": Y},
            "'image' is uint8, the model takes floating point; save it so, or name it x if it holds pixels",
        ),
        ({"image": X, "mean": 0.5}, "'image' is what the model takes, and --mean and --std are for pixels"),
    ],
)
def test_an_array_by_the_name_of_the_input_is_no_pixels(
    arrays: dict[str, np.ndarray], message: str, folder: Path
) -> None:
    np.savez("named.npz", **arrays)
    for command in ("evaluate", "tune"):
        assert message in refusal(folder, command, *COMMANDS[command], "--data", "named.npz")


def test_samples_are_for_a_model_of_one_input(tmp_path: Path) -> None:
    nodes = [node("Relu", "a", "r"), node("Add", "r b", "y")]
    model = make_model(nodes, [value("a", FLOAT, [2]), value("b", FLOAT, [2])], [value("y", FLOAT, [2])])
    report = jr_onnx.convert(model, jump=0.5)
    with pytest.raises(jr_onnx.OptionError, match=r"data: samples are for a model of one input; this one has a, b"):
        jr_onnx.check(model, report.model, data={"x": np.zeros((1, 2), np.float32)})
    np.savez(tmp_path / "d.npz", a=np.ones(2, np.float32), y=3)
    found = jr_onnx.check(model, report.model, data=tmp_path / "d.npz", library=False)  # b is made up
    assert not found.findings


@pytest.mark.usefixtures("folder")
def test_a_jump_beside_the_samples_is_not_left_out() -> None:
    jr_onnx.convert(DIGITS, jump=0.5, jump_input="jump", output="input.onnx")
    assert not jr_onnx.check(DIGITS, "input.onnx", data={"image": X, "jump": np.float32(1), "y": Y}).findings
    with pytest.raises(jr_onnx.OptionError, match=r"`data`: the model has no input 'x'; it has image, jump"):
        jr_onnx.check(DIGITS, "input.onnx", data={"x": X, "jump": np.float32(1)})


@pytest.mark.parametrize(("batch", "element_type"), [(1, FLOAT), (12, FLOAT), (64, FLOAT), ("N", DOUBLE)])
def test_samples_come_in_batches_that_the_model_takes(batch: int | str, element_type: int, tmp_path: Path) -> None:
    declared = [value("x", element_type, [batch, 3])], [value("y", element_type, [batch, 3])]
    onnx.save(make_model([node("Relu", "x", "y")], *declared), tmp_path / "model.onnx")
    session = Session(tmp_path / "model.onnx", Way("CPUExecutionProvider", library=False))
    samples = np.random.default_rng(0).random((50, 3)).astype(np.float32)
    data = read_data((samples, np.arange(50)))
    fed = [one.feeds["x"] for one in Sampler(session, {}, data).given()]
    assert {len(one) for one in fed} == {batch if batch != "N" else MOST_SAMPLES}
    wanted = np.resize(samples, (len(fed) * len(fed[0]), 3)) if batch == 64 else samples[:MOST_SAMPLES]
    np.testing.assert_array_equal(np.concatenate(fed)[: len(wanted)], wanted)


def test_each_batch_size_of_bench_takes_the_first_samples(folder: Path) -> None:
    np.savez(folder / "d.npz", x=PIXELS, y=Y)
    report = jr_onnx.bench([DIGITS, HARD], rounds=2, batches=[1, 8], data=folder / "d.npz")
    assert {one.batch for one in report.timings} == {1, 8}


def test_a_dataset_is_data_too(folder: Path) -> None:
    dataset = jr_onnx.load_data((PIXELS, Y), mean=0.5, std=0.25)
    assert not jr_onnx.check(DIGITS, folder / HARD, data=dataset, library=False).findings
