"""Samples from every source: what is read, how it becomes the model's input, and what is never in memory."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import MODELS, Array, assert_same_bits

from jr_onnx import OptionError
from jr_onnx.robustness.dataset import Classifier, Dataset, load_data, read_classifier, split

LABELS = np.arange(6) % 3
BYTES = np.arange(6 * 2 * 4 * 5, dtype=np.uint8).reshape(6, 2, 4, 5)


@pytest.fixture
def classifier() -> Classifier:
    """Takes [N, 2, 4, 5], knows three classes."""
    return Classifier("x", ("N", 2, 4, 5), 1, "y", 3, "NCHW")


# --- arrays -----------------------------------------------------------------------------------------------------------


def test_an_npz_file_says_samples_labels_mean_and_std(tmp_path: Path, classifier: Classifier) -> None:
    np.savez(tmp_path / "d.npz", x=BYTES, y=LABELS, mean=[0.25, 0.5], std=[0.5, 2])
    data = load_data(tmp_path / "d.npz", classifier=classifier)
    assert len(data) == 6
    assert data.labels is not None
    assert data.labels.dtype == np.int64
    assert data.labels.tolist() == LABELS.tolist()
    pixels = data.batch([4, 1])
    assert_same_bits(pixels, BYTES[[4, 1]].astype(np.float32) / np.float32(255))
    expected = (pixels - np.array([0.25, 0.5], np.float32).reshape(2, 1, 1)) / np.array([0.5, 2], np.float32).reshape(
        2, 1, 1
    )
    assert_same_bits(data.normalise(pixels), expected)


def test_arguments_go_before_what_the_file_says(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=BYTES, y=LABELS, mean=[0.25, 0.5], std=[0.5, 2])
    data = load_data(tmp_path / "d.npz", mean=0.1, std=(0.2, 0.3))
    assert data.mean.tolist() == pytest.approx([0.1])
    assert data.std.tolist() == pytest.approx([0.2, 0.3])


def test_without_mean_and_std_pixels_are_the_input(tmp_path: Path) -> None:
    x = np.linspace(0, 1, 24, dtype=np.float32).reshape(4, 6)
    np.savez(tmp_path / "d.npz", x=x)
    data = load_data(tmp_path / "d.npz")
    assert data.labels is None
    assert_same_bits(data.normalise(data.batch(slice(1, 3))), x[1:3])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_pixels_already(dtype: type, classifier: Classifier) -> None:
    x = np.random.default_rng(0).random((6, 2, 4, 5)).astype(dtype)
    data = load_data((x, LABELS), classifier=classifier)
    assert data.pixel_range == (0, 1)
    assert_same_bits(data.batch([0, 3]), x[[0, 3]].astype(np.float32))


@pytest.mark.parametrize("dtype", [">f4", ">f8", "<f4"])
def test_floats_in_any_byte_order_are_read(dtype: str, tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((6, 2, 4, 5)).astype(dtype)
    np.savez(tmp_path / "d.npz", x=x, y=LABELS.astype(">i8"))
    data = load_data(tmp_path / "d.npz")
    assert_same_bits(data.batch([0, 3]), x[[0, 3]].astype(np.float32))
    assert data.labels is not None
    assert data.labels.dtype.isnative


def test_the_channels_last_have_their_mean_last() -> None:
    data = load_data((np.full((6, 4, 5, 2), 255, np.uint8), LABELS), layout="NHWC", mean=(0, 0.5))
    assert data.normalise(data.batch([0]))[0, 0, 0].tolist() == [1, 0.5]


def test_an_npy_file_has_no_labels_and_is_mapped(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", BYTES)
    data = load_data(tmp_path / "d.npy")
    assert data.labels is None
    assert isinstance(data.images, np.memmap)
    assert_same_bits(data.images[:], BYTES)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("compressed", [False, True])
def test_an_npz_file_is_mapped_where_it_is_not_compressed(tmp_path: Path, order: Any, compressed: bool) -> None:
    x = np.asarray(BYTES, order=order)
    (np.savez_compressed if compressed else np.savez)(tmp_path / "d.npz", before=LABELS, x=x, y=LABELS)
    data = load_data(tmp_path / "d.npz")
    assert isinstance(data.images, np.memmap) is not compressed
    assert_same_bits(np.asarray(data.images), BYTES)


def test_the_test_data_beside_the_models_load() -> None:
    classifier = read_classifier(MODELS / "digits.onnx")
    data = load_data(MODELS / "digits_test.npz", classifier=classifier)
    assert data.images.shape == (360, 1, 8, 8)
    assert classifier.feed(data.normalise(data.batch([0])))["image"].shape == (1, 1, 8, 8)


# --- callables --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "returned",
    [(BYTES, LABELS), {"x": BYTES, "y": LABELS}, (BYTES, LABELS.tolist())],
    ids=["pair", "mapping", "list of labels"],
)
def test_a_callable_gives_samples(returned: Any) -> None:
    data = load_data(lambda: returned)
    assert_same_bits(data.images[:], BYTES)
    assert data.labels is not None
    assert data.labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize("returned", [BYTES / 255, {"x": (BYTES / 255).tolist()}, (BYTES / 255).tolist()])
def test_a_callable_may_give_samples_alone_and_as_lists(returned: Any) -> None:
    data = load_data(lambda: returned)
    assert data.labels is None
    assert_same_bits(data.batch([2]), (BYTES / 255)[[2]].astype(np.float32))


def test_a_callable_may_give_tensors_of_torch() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    data = load_data(lambda: (torch.from_numpy(BYTES), torch.from_numpy(LABELS)))
    assert_same_bits(data.images[:], BYTES)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module in the current folder."""
    (tmp_path / "my_samples.py").write_text(
        "import numpy as np\n"
        "def digits():\n    return np.zeros((4, 3), np.uint8), np.array([0, 1, 2, 0])\n"
        "number = 3\n"
        "def three():\n    return 1, 2, 3\n"
        "def ragged():\n    return [[1, 2], [3]], [0, 1]\n"
        "def ragged_labels():\n    return np.zeros((2, 3), np.uint8), [[0], [1, 2]]\n"
        "def breaks():\n    raise KeyError('the\\nthird')\n"
        "def late():\n    import my_helper\n    return my_helper.x\n"
    )
    (tmp_path / "my_slip.py").write_text("def x(:\n")
    (tmp_path / "my_helper.py").write_text("import numpy as np\nx = np.zeros((4, 3), np.uint8)\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    yield
    for name in ("my_samples", "my_helper"):
        sys.modules.pop(name, None)
    assert sys.path == before


@pytest.mark.usefixtures("module")
def test_a_function_of_a_module_in_the_current_folder_gives_samples() -> None:
    data = load_data("my_samples:digits")
    assert data.images.shape == (4, 3)
    assert data.name == "my_samples:digits"


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("my_samples:letters", "the module has no function 'letters'"),
        ("my_samples:number", "the module has no function 'number'"),
        ("no_such_module:x", "No module named 'no_such_module'"),
        ("my_samples:three", "gives 3 values"),
        ("my_samples:ragged", "the samples are not an array: ValueError: "),
        ("my_samples:ragged_labels", "the labels are not an array: ValueError: "),
        ("my_samples:breaks", r"KeyError: 'the\\nthird'"),
        ("my_slip:x", "SyntaxError: "),
    ],
)
def test_a_function_that_gives_no_samples_is_refused(source: str, complaint: str) -> None:
    with pytest.raises(OptionError, match=f"^{source}: .*{complaint}") as caught:
        load_data(source)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.usefixtures("module")
def test_a_function_may_import_from_the_current_folder_when_it_is_called() -> None:
    assert load_data("my_samples:late").images.shape == (4, 3)


# --- a folder of images -----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes with two images each: a plain grey one, and one that is dark on the left and light on the right."""
    image = pytest.importorskip("PIL.Image", reason="a folder of images needs Pillow, which is not installed")
    steps = np.repeat(np.array([0, 255], np.uint8), 20)[None, :].repeat(20, axis=0)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        image.fromarray(np.full((20, 20), 100 if name == "cat" else 200, np.uint8)).save(tmp_path / name / "a.png")
        image.fromarray(np.stack([steps] * 3, axis=2)).save(tmp_path / name / "b.png")
        (tmp_path / name / "notes.txt").write_text("no image")
    return tmp_path


def test_each_folder_is_a_class_and_images_are_cut_to_their_middle(folder: Path) -> None:
    data = load_data(folder, classifier=Classifier("x", ("N", 3, 10, 10), 1, "y", 2, "NCHW"))
    assert data.images.shape == (4, 3, 10, 10)
    assert data.images.dtype == np.uint8
    assert data.labels is not None
    assert data.labels.tolist() == [0, 0, 1, 1]
    assert set(np.unique(data.images[[0]])) == {100}
    # 40 wide and 20 high becomes 20 wide and 10 high, of which the middle stays: half dark, half light.
    wide = data.images[1]
    assert wide.shape == (3, 10, 10)
    assert wide[:, :, :4].max() == 0
    assert wide[:, :, 6:].min() == 255


def test_the_models_layout_and_channels_are_those_of_the_images(folder: Path) -> None:
    grey = load_data(folder, classifier=Classifier("x", (None, 6, 8, 1), 1, "y", 2, "NHWC"))
    assert grey.images[[2]].shape == (1, 6, 8, 1)
    assert load_data(folder, size=(5, 7)).images.shape == (4, 3, 5, 7)


def test_images_are_read_when_they_are_asked_for(folder: Path) -> None:
    data = load_data(folder, size=(4, 4))
    (folder / "dog" / "b.png").write_bytes(b"no image any more")
    assert data.batch([0, 2]).shape == (2, 3, 4, 4)
    with pytest.raises(OptionError, match=r"dog/b.png: not an image"):
        data.batch([3])


@pytest.mark.parametrize("kind", ["EPS", "PDF", "ICO", "TGA"])
def test_no_decoder_but_those_of_the_endings_is_run_whatever_a_file_is_called(folder: Path, kind: str) -> None:
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (16, 16)).save(folder / "dog" / "b.png", kind)
    with pytest.raises(OptionError, match=r"dog/b.png: not an image that can be read: cannot identify image file"):
        load_data(folder, size=(4, 4)).batch([3])


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_of_16_bits_in_grey_has_its_greys(folder: Path, suffix: str, channels: int) -> None:
    image = pytest.importorskip("PIL.Image")
    greys = np.array([[0, 257], [40000, 65535]], np.uint16)
    for path in (folder / "cat").iterdir():
        path.unlink()
    image.fromarray(greys).save(folder / "cat" / f"a.{suffix}")
    data = load_data(folder, classifier=Classifier("x", ("N", channels, 2, 2), 1, "y", 2, "NCHW"))
    assert (data.images[0] == np.array([[0, 1], [156, 255]])).all()


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_an_image_whose_range_nobody_knows_is_refused(folder: Path, dtype: type) -> None:
    image = pytest.importorskip("PIL.Image")
    image.fromarray(np.full((4, 4), 7, dtype)).save(folder / "cat" / "0.tif")
    with pytest.raises(OptionError, match=r"0\.tif: has pixels of 32 bits"):
        load_data(folder, size=(4, 4)).batch([0])


def test_folders_with_numbers_are_labels(folder: Path) -> None:
    (folder / "cat").rename(folder / "7")
    (folder / "dog").rename(folder / "10")
    data = load_data(folder, size=(4, 4), classifier=Classifier("x", ("N", 3, None, None), 1, "y", 11, "NCHW"))
    assert data.labels is not None
    assert sorted(set(data.labels.tolist())) == [7, 10]


def test_images_without_folders_have_no_labels(folder: Path) -> None:
    assert load_data(folder / "cat", size=(4, 4)).labels is None


@pytest.mark.parametrize(
    ("shape", "classes", "size", "complaint"),
    [
        (("N", 3, 10, 10), 3, None, "2 folders for 3 classes"),
        (("N", 3, None, None), 2, None, "say which with `size`"),
        (("N", 64), 2, None, "no images"),
        (("N", 4, 10, 10), 2, None, "4 channels"),
        (("N", 3, 10, 10), 2, (8, 8), "the model takes"),
    ],
)
def test_a_folder_that_does_not_fit_the_model_is_refused(
    folder: Path, shape: Any, classes: int, size: Any, complaint: str
) -> None:
    with pytest.raises(OptionError, match=complaint):
        load_data(folder, classifier=Classifier("x", shape, 1, "y", classes, "NCHW"), size=size)


def test_a_folder_without_images_is_refused(folder: Path) -> None:
    (folder / "cat" / "empty").mkdir()
    with pytest.raises(OptionError, match="beside its folders"):
        load_data(folder / "cat", size=(4, 4))
    with pytest.raises(OptionError, match="no image in it"):
        load_data(folder / "cat" / "empty", size=(4, 4))


# --- splitting --------------------------------------------------------------------------------------------------------


@given(st.integers(2, 500), st.floats(0.01, 0.99), st.integers(0, 2**32))
def test_a_split_is_disjoint_complete_and_the_same_for_the_same_seed(n: int, fraction: float, seed: int) -> None:
    x = np.arange(n, dtype=np.float64)[:, None] / 1000
    data = load_data((x, np.arange(n) % 2))
    one, other = split(data, fraction, seed)
    rows = [np.rint(part.batch(np.arange(len(part)))[:, 0] * 1000).astype(int) for part in (one, other)]
    assert sorted(np.concatenate(rows).tolist()) == list(range(n))
    assert min(len(one), len(other)) >= 1
    assert abs(len(one) - fraction * n) <= 1
    for part, own in zip((one, other), rows, strict=True):
        assert part.labels is not None
        assert (part.labels == own % 2).all()
    again = split(data, fraction, seed)[0]
    assert_same_bits(again.batch(slice(None)), one.batch(slice(None)))


def test_another_seed_splits_otherwise() -> None:
    data = load_data((np.arange(100, dtype=np.float32)[:, None] / 100, np.arange(100) % 2))
    assert not np.array_equal(split(data, 0.5, 0)[0].batch(slice(None)), split(data, 0.5, 1)[0].batch(slice(None)))


def test_a_part_of_a_part_reads_the_right_rows() -> None:
    data = load_data((np.arange(100, dtype=np.float32)[:, None] / 100, None))
    part = data.take(np.arange(10, 60)).take(np.array([5, 0]))
    assert part.batch([0, 1])[:, 0].tolist() == pytest.approx([0.15, 0.10])
    assert part.images.shape == (2, 1)


def test_splitting_copies_no_image() -> None:
    class Counting:
        """Images that say how many of them were read."""

        shape, dtype, read = (50, 2), np.dtype(np.uint8), 0

        def __len__(self) -> int:
            return 50

        def __getitem__(self, rows: Any) -> Array:
            taken = np.zeros((50, 2), np.uint8)[rows]
            Counting.read += len(taken)
            return taken

    ones = np.ones(1, np.float32)
    one, _ = split(Dataset(Counting(), None, 0 * ones, ones, (0, 255)), 0.5, 0)
    assert Counting.read == 0
    one.batch([3, 4])
    assert Counting.read == 2


@pytest.mark.parametrize("fraction", [0, 1, -1, float("nan")])
def test_a_split_that_leaves_nothing_is_refused(fraction: float) -> None:
    with pytest.raises(OptionError, match="between 0 and 1"):
        split(load_data((BYTES, LABELS)), fraction, 0)


def test_of_a_memory_map_only_the_chosen_rows_are_sent(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((5000, 1, 8, 8), np.float32))
    chosen = load_data(tmp_path / "x.npy").take(np.arange(0, 5000, 10)).take(np.array([3, 1]))
    sent = pickle.dumps(chosen)
    assert len(sent) < 3000
    assert np.array_equal(pickle.loads(sent).batch(slice(None)), chosen.batch(slice(None)))
