"""Bad input, by way of the command line: exit code 2, one line that says what is wrong where, and no file."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import strange_models
import wire_format
from onnx import ModelProto, helper, numpy_helper
from outcome import Outcome
from support import BACKEND_DATA, relu_model

from jr_onnx import find_sites
from jr_onnx.files.source import open_bytes


@pytest.fixture(params=["convert", "inspect"])
def command(request: pytest.FixtureRequest) -> list[str]:
    """What both commands must refuse."""
    return [request.param] + (["--jump", "0.5"] if request.param == "convert" else [])


# --- no model ---------------------------------------------------------------------------------------------------------


def test_a_file_that_is_not_there_is_refused(command: list[str], tmp_path: Path, refused: Callable[..., str]) -> None:
    path = tmp_path / "missing.onnx"
    assert refused(*command, path) == f"{path}: no such file"


def test_a_folder_is_refused(command: list[str], tmp_path: Path, refused: Callable[..., str]) -> None:
    assert refused(*command, tmp_path) == f"{tmp_path}: not a file"


@pytest.mark.skipif(not Path("/dev/null").exists(), reason="a device as POSIX has them")
def test_a_device_is_refused(command: list[str], refused: Callable[..., str]) -> None:
    assert refused(*command, "/dev/null") == "/dev/null: not a file"


def test_a_name_that_is_too_long_is_refused(command: list[str], refused: Callable[..., str]) -> None:
    assert refused(*command, "n" * 5000).startswith("nnnn")


NO_MODELS = {
    "an empty file": (b"", "is empty"),
    "a text": (b"This is no model.\n", "is text; give the ONNX model"),
    "a program": (b"\x7fELF\x02\x01\x01" + bytes(1000), "damaged at byte"),
    "zeros": (bytes(1000), "damaged at byte 0"),
    "a cut archive": (b"PK\x03\x04\x14\x00" + bytes(100), "is a ZIP archive"),
    "a tensor": (numpy_helper.from_array(np.ones((2, 3), np.float32), "t").SerializeToString(), "not an ONNX model"),
    "a graph": (relu_model().graph.SerializeToString(), ""),
    "no graph": (ModelProto(ir_version=8, opset_import=[helper.make_opsetid("", 18)]).SerializeToString(), "graph"),
    "no IR version": (ModelProto(graph=relu_model().graph).SerializeToString(), "it has no IR version"),
    "a negative IR version": (ModelProto(ir_version=-1, graph=relu_model().graph).SerializeToString(), "IR version"),
    "a future IR version": (relu_model(ir_version=99).SerializeToString(), "IR version 99 is unknown to onnx"),
    "two graphs": (
        relu_model().SerializeToString() + wire_format.field(7, wire_format.BYTES, b"").raw,
        "field 7 of the message at byte 0 occurs 2 times",
    ),
    "a group": (wire_format.varint(5 << 3 | 3) + wire_format.varint(5 << 3 | 4), "wire type 3 does not occur in ONNX"),
}


@pytest.mark.parametrize("what", NO_MODELS)
def test_what_is_no_model_is_refused(what: str, tmp_path: Path, refused: Callable[..., str]) -> None:
    content, complaint = NO_MODELS[what]
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    said = refused("convert", path, "--jump", "1")
    assert said.startswith(f"{path}: ")
    assert complaint in said


def zipped(*names: str) -> bytes:
    """A ZIP archive with files of these names; the first is too long for the names to stand at the start alone."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, bytes(10000))
    return file.getvalue()


def npz() -> bytes:
    """Two arrays as NumPy saves them."""
    file = io.BytesIO()
    np.savez(file, x=np.ones(3), y=np.ones(3000))
    return file.getvalue()


def in_format(name: str) -> bytes:
    """A model in one of the other formats that onnx.save writes."""
    return bytes(onnx.serialization.registry.get(name).serialize_proto(relu_model()))


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 12345\n"
#: What else is given the name of a model by mistake -> what is said of it.
OTHER_FORMATS = {
    "Git LFS": (POINTER, "is a Git LFS pointer, not the model itself; get the model with 'git lfs pull'"),
    "textproto": (in_format("textproto"), "is an ONNX model as text (textproto); save it as protobuf with onnx.save("),
    "textproto with a comment": (b"# a model\n" + in_format("textproto"), "format='textproto')"),
    "onnxtxt": (in_format("onnxtxt"), "is an ONNX model as text (onnxtxt); save it as protobuf with onnx.save("),
    "ONNX as JSON": (in_format("json"), "is an ONNX model as JSON; save it as protobuf with onnx.save("),
    "Markdown": (b"# Models\n\nThe model is in \xc2\xabnet.onnx\xc2\xbb.\n", "is text; give the ONNX model"),
    "JSON": (b'[{"model_type": "bert"}]', "is JSON; give the ONNX model"),
    "ORT": (b"\x18\0\0\0ORTM" + bytes(1000), "is onnxruntime's ORT format; give the ONNX model that it was made from"),
    "TFLite": (b"\x1c\0\0\0TFL3" + bytes(1000), "is a TensorFlow Lite model; export the model to ONNX"),
    "gzip": (gzip.compress(relu_model().SerializeToString()), "is compressed with gzip; decompress it first"),
    "xz": (lzma.compress(relu_model().SerializeToString()), "is compressed with xz; decompress it first"),
    "bzip2": (bz2.compress(relu_model().SerializeToString()), "is compressed with bzip2; decompress it first"),
    "tar": (tarfile.TarInfo("model.onnx").tobuf() + bytes(1024), "is a tar archive; unpack it"),
    "ZIP": (zipped("model.onnx"), "is a ZIP archive; unpack it and give the ONNX model in it"),
    "PyTorch": (zipped("archive/data.pkl", "archive/version"), "is a PyTorch file; export the model to ONNX"),
    "pickle": (pickle.dumps({"w": [0.0] * 1000}, protocol=2), "is a pickle, as torch.save wrote it"),
    "NPZ": (npz(), "is an NPZ file, arrays of NumPy; give the ONNX model"),
    "HTML": (b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title>", "is a web page; download the model itself"),
    "XML": (b'<?xml version="1.0"?>\n<net name="model" version="11">', "is XML, as OpenVINO saves models"),
    "safetensors": ((40).to_bytes(8, "little") + b'{"w":{"dtype":"F32"}}'.ljust(40), "is a safetensors file"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "is an HDF5 file, as Keras saves models; export the model to ONNX"),
    "GGUF": (b"GGUF\x03\0\0\0" + bytes(100), "is a GGUF file; export the model to ONNX"),
}


@pytest.mark.parametrize("what", OTHER_FORMATS)
def test_another_format_is_named_with_what_to_do(
    what: str, command: list[str], tmp_path: Path, refused: Callable[..., str]
) -> None:
    content, complaint = OTHER_FORMATS[what]
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    said = refused(*command, path)
    assert said.startswith(f"{path}: is ")
    assert complaint in said


@pytest.mark.parametrize("name", ["textproto", "json", "onnxtxt"])
def test_what_is_advised_for_another_format_of_onnx_works(name: str, tmp_path: Path) -> None:
    (tmp_path / "model.text").write_bytes(in_format(name))
    onnx.save(onnx.load(tmp_path / "model.text", format=name), tmp_path / "model.onnx")
    assert [site.path for site in find_sites(tmp_path / "model.onnx")] == ["relu"]


def test_a_model_that_begins_like_another_format_is_read() -> None:
    """Unknown fields may stand first; these bytes are such a field, and a pickle's beginning."""
    like_a_pickle = wire_format.varint(32 << 3) + wire_format.varint(1)
    assert like_a_pickle[:2] == b"\x80\x02"
    source = open_bytes(like_a_pickle + relu_model().SerializeToString())
    assert source.skeleton.graph.node[0].op_type == "Relu"


@pytest.mark.parametrize("seed", range(50))
def test_random_bytes_are_refused(seed: int, command: list[str], tmp_path: Path, refused: Callable[..., str]) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(np.random.default_rng(seed).bytes(1 << seed % 15))
    assert refused(*command, path).startswith(f"{path}: ")


@pytest.mark.parametrize(
    "content",
    [
        (BACKEND_DATA / "simple" / "test_single_relu_model" / "model.onnx").read_bytes(),
        strange_models.weighted_relu(np.ones(3, np.float32)).SerializeToString(),
    ],
    ids=["single relu", "weighted relu"],
)
def test_a_model_that_is_cut_off_at_any_byte_is_refused_unless_that_leaves_a_model(
    content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    boundaries = {0}
    for field in wire_format.parse(content):
        boundaries.add(max(boundaries) + len(field.raw))
    for end in range(len(content)):
        path.write_bytes(content[:end])
        outcome = Outcome(tmp_path, ("convert", path, "--jump", "1"))
        if outcome.code == 0 and end in boundaries:
            hardened = path.with_name("model.jumprelu.onnx")
            onnx.checker.check_model(onnx.load(hardened))
            hardened.unlink()
        else:
            assert outcome.is_refusal(), (end, vars(outcome))
            assert outcome.err.startswith(f"jr-onnx convert: {path}: ")
