"""What `jr-onnx check` makes of input that nobody means: an answer, or one line, and never a traceback."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from checking import DIGITS, graph, hardened, node, rules, shown, small
from outcome import Outcome, refusal

import jr_onnx
from jr_onnx.checking import run
from jr_onnx.checking.formats import to_github
from jr_onnx.checking.report import CheckReport, finding
from jr_onnx.checking.rules import CHECKER
from jr_onnx.runtime.execution import Arrays, CannotRunError, Session, Way

pytest.importorskip("onnxruntime")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    jr_onnx.convert(DIGITS, jump=0.2, output=tmp_path / "h.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def images() -> np.ndarray:
    return np.load(DIGITS.with_name("digits_test.npz"))["x"][:4]


# --- --data -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ">f4"])
def test_data_in_another_float_are_cast(dtype: str, folder: Path) -> None:
    np.savez("x.npz", image=images().astype(dtype))
    assert Outcome(folder, ("check", DIGITS, "h.onnx", "--data", "x.npz", "--no-library")).code == 0


SO = "save it so, or name it x if it holds pixels"


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (images()[:, 0], "'image' has the shape [4, 8, 8], the model takes [N, 1, 8, 8]"),
        (images()[..., :5], "'image' has the shape [4, 1, 8, 5], the model takes [N, 1, 8, 8]"),
        (images().astype(np.uint8), f"'image' is uint8, the model takes float32; {SO}"),
        (images() + np.float64(1e300), "'image' has values that float32 has not, the model takes float32; save it so"),
        (images().astype(str), "'image' is <U32, the model takes float32; save it so"),
    ],
)
def test_data_that_do_not_fit_are_named_in_one_line(array: np.ndarray, message: str, folder: Path) -> None:
    np.savez("x.npz", image=array)
    assert refusal(folder, "check", DIGITS, "h.onnx", "--data", "x.npz") == f"--data: {message}"


def test_integers_are_cast_where_they_fit() -> None:
    model = graph("""
        g (int32[N] i, float[9] x) => (float[N] y) { r = Relu(x) y = Gather(r, i) }
    """)
    x = np.ones(9, np.float32)
    report = jr_onnx.check(model, hardened(model), data={"i": np.array([0, 8]), "x": x}, library=False)
    assert not report.findings, shown(report)
    with pytest.raises(jr_onnx.OptionError, match="'i' has values that int32 has not"):
        jr_onnx.check(model, hardened(model), data={"i": np.array([2**40]), "x": x}, library=False)


def encrypted(path: Path) -> None:
    np.savez(path, image=images())
    content = bytearray(path.read_bytes())
    for magic, flags in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        place = content.find(magic)
        while place >= 0:
            content[place + flags] |= 1
            place = content.find(magic, place + 4)
    path.write_bytes(content)


def without_a_header(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("image", images().tobytes())


def of_text(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("image.npy", "hello")


@pytest.mark.parametrize("make", [encrypted, without_a_header, of_text], ids=lambda make: make.__name__)
def test_an_npz_of_anything_else_is_one_line(make: object, folder: Path) -> None:
    make(folder / "x.npz")  # type: ignore[operator]
    assert "x.npz: " in refusal(folder, "check", DIGITS, "h.onnx", "--data", "x.npz")


# --- running ----------------------------------------------------------------------------------------------------------


def test_a_model_that_loads_with_the_library_and_fails_is_a_finding(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(Session):
        def __init__(self, path: Path, way: Way) -> None:
            super().__init__(path, Way(way.provider, False, way.level))
            self._library = way.library

        def run(self, feeds: Arrays) -> dict[str, np.ndarray]:
            if self._library:
                raise CannotRunError("Resize: scale 0")
            return super().run(feeds)

    monkeypatch.setattr(run, "library_problem", str)
    monkeypatch.setattr(run, "Session", Failing)
    for original in (DIGITS, None):
        report = jr_onnx.check(original, "h.onnx")
        assert rules(report) == {"JR501"}, shown(report)
        assert "does not run on random input 0 times 1 (CPUExecutionProvider, with the library): Resize" in shown(
            report
        )
    assert folder


def test_what_neither_model_can_run_is_not_an_error() -> None:
    model = graph("""
        g (float[4] x, int64[1] i) => (float[1] y) { r = Relu(x) y = Gather(r, i) }
    """)
    data = {"x": np.ones(4, np.float32), "i": np.array([7])}
    report = jr_onnx.check(model, hardened(model), data=data, library=False)
    assert rules(report) == {"JR001"}, shown(report)
    assert "neither model runs on `data`" in shown(report)


@pytest.mark.parametrize("size", [0, 4000, 60_000, 150_000])
def test_temporary_files_that_cannot_be_written_are_said(size: int, folder: Path) -> None:
    """No file may be larger: so a full disk ends some of the copies, and the profile, in their middle."""
    script = f"""
import resource, sys
from jr_onnx.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
sys.exit(main(["check", {str(DIGITS)!r}, "h.onnx"]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=folder, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == 1
    assert {line.split()[1] for line in done.stdout.splitlines() if line.startswith(("error", "warning"))} == {"JR001"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_device_is_not_a_finding(folder: Path) -> None:
    for arguments in (["check", str(DIGITS), "h.onnx", "--no-run"], ["inspect", "h.onnx"]):
        with Path("/dev/full").open("wb") as full:
            command = [sys.executable, "-m", "jr_onnx.cli.main", *arguments]
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=folder, check=False)
        message = "the output cannot be written: No space left on device"
        assert (done.returncode, done.stderr) == (2, f"jr-onnx {arguments[0]}: {message}\n")


# --- what a file says of itself ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("include", "[" * 100_000),
        ("exclude", "1" * 5000),
        ("sites", "1" * 5000),
        ("sites", "\u0664"),
        ("jump", "1" * 5000),
        ("version", "0.1.0 and more"),
        ("version", "0.1.0\x1b[2J"),
        ("version", "\u0661.1.0"),
        ("target", "x" * 5000),
        ("jump_input", "y" * 5000),
    ],
    ids=lambda text: text[:12],
)
def test_a_hostile_record_is_a_finding_or_one_line(key: str, text: str, tmp_path: Path) -> None:
    path, original = tmp_path / "hard.onnx", tmp_path / "o.onnx"
    model = hardened()
    kept = [one for one in model.metadata_props if one.key != f"jr_onnx.{key}"]
    del model.metadata_props[:]
    model.metadata_props.extend([*kept, onnx.StringStringEntryProto(key=f"jr_onnx.{key}", value=text)])
    onnx.save(model, path)
    onnx.save(small(), original)
    for arguments in (("check", path), ("check", original, path)):
        outcome = Outcome(tmp_path, (*arguments, "--no-library"))
        assert "Traceback" not in outcome.err
        assert outcome.code == 1 or outcome.is_refusal()


TEXTS = ("DIMP", "DOCS", "GRPH", "VDOC", "PROD", "DOMN", "MVAL", "NVAL", "TDOC")


@pytest.mark.parametrize("text", TEXTS)
def test_text_that_is_not_utf8_is_compared_all_the_same(text: str, tmp_path: Path) -> None:
    model = small()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "DIMP"
    model.graph.name, model.producer_name, model.domain = "GRPH", "PROD", "DOMN"
    model.graph.output[0].doc_string = "VDOC"
    model.graph.initializer[0].doc_string = "TDOC"
    node(model, "swap").doc_string = "DOCS"
    model.metadata_props.add(key="k", value="MVAL")
    node(model, "swap").metadata_props.add(key="k", value="NVAL")
    content = model.SerializeToString()
    assert content.count(text.encode()) == 1
    good, bad = tmp_path / "good.onnx", tmp_path / "bad.onnx"
    good.write_bytes(content)
    bad.write_bytes(content.replace(text.encode(), b"\xff\xfe\xfd\xfc"))
    for path in (good, bad):
        jr_onnx.convert(path, jump=0.5, output=path.with_suffix(".hard"))
    for original, other in ((good, bad), (bad, good)):
        report = jr_onnx.check(original, original.with_suffix(".hard"), library=False)
        assert rules(report) <= ({"JR001"} if original == bad and text == "DIMP" else set()), shown(report)
        assert jr_onnx.check(original, other.with_suffix(".hard"), run=False).errors
        assert Outcome(tmp_path, ("diff", original, other)).code == 0


def test_github_shows_what_a_log_would_obey() -> None:
    text = "a\x1b[2J\u202eb\r\n::error::c%"
    report = CheckReport(None, None, "", "", (), (finding(CHECKER, text, text),), (text,), (), (), (), 0.0)
    lines = to_github((report,)).splitlines()
    assert len(lines) == 3
    assert all(line.startswith(("::error title=", "::notice title=")) for line in lines)
    assert all(char.isprintable() for line in lines for char in line)
    assert all(r"\x1b[2J\u202eb\r\n::error::c%25" in line for line in lines[:2])
