"""Data that would give numbers without meaning: one clear line each, before anything is run."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jr_onnx import OptionError
from jr_onnx.robustness.dataset import Classifier, load_data

X = np.random.default_rng(0).random((8, 1, 4, 4)).astype(np.float32)
Y = np.arange(8) % 4
CLASSIFIER = Classifier("image", ("N", 1, 4, 4), 1, "logits", 4, "NCHW")


def changed(row: int, value: float) -> Any:
    x = X.copy()
    x[row, 0, 2, 3] = value
    return x


@pytest.mark.parametrize(
    ("x", "y", "complaint"),
    [
        (X[:, :, :, :3], Y, r"\[8, 1, 4, 3\], the model takes \[N, 1, 4, 4\]"),
        (X[0], Y, r"have the shape \[1, 4, 4\]"),
        (X.transpose(0, 2, 3, 1), Y, r"x.transpose\(0, 3, 1, 2\) would fit"),
        (np.float32(1), Y, "have the shape"),
        (X[:0], Y[:0], "is empty"),
        (X.astype(np.int64), Y, "the samples are int64"),
        (X > 0.5, Y, "the samples are bool"),
        (X.astype(str), Y, "the samples are <U"),
        (X * 2 - 1, Y, "undo the normalisation"),
        (X * 255, Y, "store them as uint8"),
        (changed(5, np.nan), Y, "sample 5 has NaN or infinity"),
        (changed(6, np.inf), Y, "sample 6 has NaN or infinity"),
        (X, Y[:7], r"labels of shape \[7\] for 8 samples"),
        (X, np.eye(4)[Y], "one-hot labels"),
        (X, Y + 0.5, "the labels are float64"),
        (X, Y.astype(str), "the labels are <U"),
        (X, Y - 1, "the label -1 is negative"),
        (X, Y + 1, "the label 4 is not one of the model's 4 classes"),
        (X, np.full(8, 2), "all samples are of class 2"),
        (X[:1], Y[:1], "all samples are of class 0"),
    ],
)
def test_unfit_samples_and_labels(x: Any, y: Any, complaint: str) -> None:
    with pytest.raises(OptionError, match=complaint) as caught:
        load_data((x, y), classifier=CLASSIFIER)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("mean", "std", "complaint"),
    [
        (33.3, 1, "divide it by 255"),
        (-0.1, 1, "not in units of pixels"),
        (0.5, 0, "std 0 must be positive"),
        (0.5, -1, "std -1 must be positive"),
        ((0.1, 0.2, 0.3), 1, "give one number"),
        (0.5, (0.1, 0.2), "give one number"),
        (np.nan, 1, "mean nan is not finite"),
        (0.5, np.inf, "std inf is not finite"),
        (0.5, 1e-40, "at least 1e-06"),
        ("half", 1, "mean 'half' is not a list of numbers"),
    ],
)
def test_unfit_mean_and_std(mean: Any, std: Any, complaint: str) -> None:
    with pytest.raises(OptionError, match=complaint):
        load_data((X, Y), mean=mean, std=std)


@pytest.mark.parametrize("what", ["mean", "std"])
def test_a_mean_or_std_in_a_file_that_is_no_number_is_named(tmp_path: Path, what: str) -> None:
    np.savez(tmp_path / "d.npz", x=X, y=Y, **{what: np.array(["a"])})
    with pytest.raises(OptionError, match=rf"{what} \['a'\] is not a list of numbers"):
        load_data(tmp_path / "d.npz")


def test_a_file_without_samples_names_what_it_has(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", images=X, y=Y)
    with pytest.raises(OptionError, match="no array 'x'; it has images, y"):
        load_data(tmp_path / "d.npz")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no such file or folder; give an NPZ"):
        load_data(tmp_path / "d.npz")


@pytest.mark.parametrize("name", ["d.npz", "d.npy"])
@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"PK\x03\x04 and nothing more", b"x,y\n1,2\n"])
def test_a_file_that_is_something_else(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(OptionError, match=rf"{name}: not an NP[YZ] file"):
        load_data(tmp_path / name)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_file_that_was_cut_off(tmp_path: Path, compression: int) -> None:
    (np.savez if compression == zipfile.ZIP_STORED else np.savez_compressed)(tmp_path / "d.npz", x=X, y=Y)
    whole = (tmp_path / "d.npz").read_bytes()
    (tmp_path / "d.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(OptionError, match="not an NPZ file"):
        load_data(tmp_path / "d.npz")


@pytest.mark.parametrize("compressed", [False, True])
def test_python_objects_are_not_loaded(tmp_path: Path, compressed: bool) -> None:
    (np.savez_compressed if compressed else np.savez)(tmp_path / "d.npz", x=np.array([X, None], object))
    with pytest.raises(OptionError, match="plain arrays"):
        load_data(tmp_path / "d.npz")
    np.save(tmp_path / "d.npy", np.array([X, None], object))
    with pytest.raises(OptionError, match="plain array"):
        load_data(tmp_path / "d.npy")


def test_a_size_is_for_folders_only(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=X)
    with pytest.raises(OptionError, match="`size` is for a folder"):
        load_data(tmp_path / "d.npz", size=(4, 4))


def test_a_folder_needs_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(OptionError, match="needs Pillow"):
        load_data(tmp_path)


def test_a_late_sample_of_many_is_found_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jr_onnx.runtime.data.loading._BLOCK", 40)  # two samples at once
    with pytest.raises(OptionError, match="sample 7 has NaN"):
        load_data((changed(7, np.nan), Y))
