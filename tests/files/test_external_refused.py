"""External data that lie elsewhere, are not whole, or have a strange name."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import strange_models
from external_models import WEIGHTS, convert, files_in, refusal
from strange_models import save_external

from jr_onnx.cli.main import main
from jr_onnx.files.external import all_tensors

# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("location", "complaint"),
    [
        ("../w.bin", "leaves the model's folder"),
        ("sub/../../w.bin", "leaves the model's folder"),
        ("sub/../w.bin", "leaves the model's folder"),
        ("..\\w.bin", "leaves the model's folder"),
        ("a\0b", "leaves the model's folder"),
        ("/etc/hostname", "is not a relative path"),
        ("C:\\w.bin", "is not a relative path"),
        ("\\\\server\\share\\w.bin", "is not a relative path"),
        ("", "is not a relative path"),
        (".", "names no file in"),
        ("missing.bin", "names no file in"),
        ("n" * 300, "cannot be followed"),
    ],
)
@pytest.mark.parametrize("arguments", [[], ["--dry-run"], ["--force"]])
def test_a_location_outside_the_folder_or_without_a_file_is_refused(
    location: str, complaint: str, arguments: list[str], source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source.parent.parent / "w.bin").write_bytes(WEIGHTS)
    model = onnx.load(source, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = location
    source.write_bytes(model.SerializeToString())
    there = files_in(source.parent)
    refused = refusal(capsys, source, *arguments)
    assert refused.startswith(f"jr-onnx convert: {source}: tensor 'w': external data location ")
    assert complaint in refused
    assert files_in(source.parent) == there


@pytest.mark.parametrize(("link", "to"), [("w.bin", "../outside/w.bin"), ("sub", "../outside"), ("w.bin", "w.bin")])
def test_a_symbolic_link_out_of_the_folder_is_refused(
    link: str, to: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.mkdir()
    folder.mkdir()
    location = "sub/w.bin" if link == "sub" else "w.bin"
    save_external(folder / "model.onnx", {"w": WEIGHTS}, locations={"w": location})
    (folder / location).rename(outside / "w.bin")
    if link == "sub":
        (folder / "sub").rmdir()
    (folder / link).symlink_to(to)
    refused = refusal(capsys, folder / "model.onnx")
    assert f"tensor 'w': external data location '{location}'" in refused
    assert ("is a symbolic link out of the model's folder" in refused) == (to != "w.bin")


@pytest.fixture
def cached(source: Path, tmp_path: Path) -> Path:
    """The model as Hugging Face's cache has it: the model and its data are links into one folder."""
    blobs, snapshot = tmp_path / "hub" / "blobs", tmp_path / "hub" / "snapshots" / "revision"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for file, blob in ((source, "aaaa"), (source.with_name("w.bin"), "bbbb")):
        file.rename(blobs / blob)
        (snapshot / file.name).symlink_to(f"../../blobs/{blob}")
    return snapshot / "model.onnx"


def test_data_beside_the_models_real_file_are_brought_along(cached: Path, other: Path) -> None:
    before = files_in(cached.parents[2])
    assert convert(cached, "-o", other / "hardened.onnx") == 0
    assert files_in(other) == {"hardened.onnx", "w.bin"}
    assert not (other / "w.bin").is_symlink()
    assert (other / "w.bin").read_bytes() == WEIGHTS
    assert main(["check", str(cached), str(other / "hardened.onnx"), "--no-run"]) == 0
    assert files_in(cached.parents[2]) == before


@pytest.mark.parametrize("arguments", [[], ["--force"]])
def test_data_that_are_links_out_of_the_folder_are_not_shared(
    arguments: list[str], cached: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_in(cached.parents[2])
    refused = refusal(capsys, cached, *arguments)
    assert "links out of this folder, as in Hugging Face's cache; choose an --output in another folder" in refused
    assert files_in(cached.parents[2]) == before


@pytest.mark.parametrize("to", ["../../blobs/deeper/bbbb", "../../bbbb", "../../elsewhere/bbbb"])
def test_data_anywhere_else_than_beside_the_models_real_file_are_refused(
    to: str, cached: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = cached.with_name("w.bin")
    (cached.parent / to).parent.mkdir(exist_ok=True)
    link.resolve().rename(cached.parent / to)
    link.unlink()
    link.symlink_to(to)
    assert "is a symbolic link out of the model's folder" in refusal(capsys, cached, "-o", other / "hardened.onnx")
    assert not files_in(other)


@pytest.mark.parametrize(
    ("entries", "complaint"),
    [
        ({"offset": "1"}, "bytes 1 to 17 lie outside the file (16 bytes)"),
        ({"length": "17"}, "bytes 0 to 17 lie outside the file (16 bytes)"),
        ({"offset": "-1"}, "lie outside the file"),
        ({"length": "-1"}, "lie outside the file"),
        ({"offset": str(2**70)}, "lie outside the file"),
        ({"offset": "one"}, "has an offset or length that is not a number"),
        ({"length": "1.5"}, "has an offset or length that is not a number"),
        ({"length": ""}, "has an offset or length that is not a number"),
        ({"offset": "9" * 5000}, "has an offset or length that is not a number"),
    ],
)
def test_a_tensor_outside_its_file_is_refused(
    entries: dict[str, str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_external(tmp_path / "model.onnx", {"w": WEIGHTS}, **entries)
    refused = refusal(capsys, tmp_path / "model.onnx")
    assert refused.startswith(f"jr-onnx convert: {tmp_path / 'model.onnx'}: tensor 'w': external data in ")
    assert complaint in refused
    assert files_in(tmp_path) == {"model.onnx", "w.bin"}


def test_a_data_file_that_is_cut_off_is_refused(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source.with_name("w.bin").write_bytes(WEIGHTS[:-1])
    assert "bytes 0 to 16 lie outside the file (15 bytes)" in refusal(capsys, source)


@pytest.mark.parametrize("entries", [{"offset": "4", "length": "12"}, {"checksum": "x"}])
def test_what_lies_in_the_file_is_accepted(entries: dict[str, str], tmp_path: Path) -> None:
    save_external(tmp_path / "model.onnx", {"w": WEIGHTS}, **entries)
    assert convert(tmp_path / "model.onnx") == 0


def test_a_location_that_is_not_text_is_refused(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source.write_bytes(source.read_bytes().replace(b"w.bin", b"w.b\xffn"))
    assert "is not UTF-8 text" in refusal(capsys, source)


# --- found ------------------------------------------------------------------------------------------------------------


def test_tensors_are_found_wherever_they_stand() -> None:
    model = strange_models.everything()
    body = model.graph.node[-1].attribute[0].g
    body.initializer.add(name="in a body")
    body.node[0].attribute.add(name="theirs", graphs=[onnx.GraphProto(initializer=[onnx.TensorProto(name="deeper")])])
    node = model.functions[0].node[0]
    node.attribute.add(name="list", tensors=[onnx.TensorProto(name="in a list")])
    sparse = onnx.SparseTensorProto(values=onnx.TensorProto(name="a"), indices=onnx.TensorProto(name="b"))
    node.attribute.add(name="sparse", sparse_tensor=sparse)
    node.attribute.add(name="sparse list", sparse_tensors=[sparse, sparse])
    found = [tensor.name for tensor in all_tensors(model)]
    assert set(found) == set(tensor_names(model))
    assert len(found) == len(tensor_names(model)) > 20


def tensor_names(message: object) -> list[str]:
    """The names of all tensors below a message, by protobuf's reflection."""
    names = [message.name] if isinstance(message, onnx.TensorProto) else []
    for field, content in message.ListFields():  # type: ignore[attr-defined]
        if field.message_type is not None:
            children = content if hasattr(content, "__len__") else [content]
            names += [name for child in children for name in tensor_names(child)]
    return names
