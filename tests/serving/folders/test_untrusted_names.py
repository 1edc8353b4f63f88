"""A model that is deployed chooses no name in the folder: servers run or read what has certain names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from support import FLOAT, function, hardened, make_model, node, value

from jr_onnx import ModelError, deploy
from jr_onnx.files.external import all_tensors
from jr_onnx.serving.deploy import SERVERS

EACH_SERVER = pytest.mark.parametrize("server", SERVERS)

#: Run, or read as settings, by Python, by a server or by the dynamic linker where they stand in its folder.
EVIL = ("kserve.py", "jr_onnx/__init__.py", "sub/model-settings.json", "libtriton_onnxruntime.so", "1/model.py")
#: The names of what the folder holds in any case.
TAKEN = ("README.md", "SHA256SUMS", "model.onnx", "settings.json", "model-settings.json", "jr_onnx_ops.so")
ODD = ("a\nb", "a  b", "\u2028", "MODEL.DATA", "model.1.data")

OURS = {
    "triton": {"net/config.pbtxt", "net/jr_onnx_ops.so", "net/1/model.onnx"},
    "mlserver": {"settings.json", "net/model-settings.json", "net/jr_onnx_ops.so", "net/model.onnx"},
    "kserve": {"jr_onnx_ops.so", "model.onnx"},
}


def tensor_at(location: str, name: str = "t") -> onnx.TensorProto:
    tensor = onnx.TensorProto(name=name, data_type=FLOAT, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.extend(
        onnx.StringStringEntryProto(key=key, value=text)
        for key, text in (("location", location), ("offset", "0"), ("length", "4"))
    )
    return tensor


def is_external(tensor: onnx.TensorProto) -> bool:
    return tensor.data_location == onnx.TensorProto.EXTERNAL


def written(folder: Path, model: onnx.ModelProto, locations: Sequence[str]) -> Path:
    """A model and its data files: 1, 2, 4, ..., one number in each."""
    for number, location in enumerate(dict.fromkeys(map(Path, locations))):
        (folder / location).parent.mkdir(parents=True, exist_ok=True)
        (folder / location).write_bytes(np.float32(2**number).tobytes())
    path = folder / "net.jumprelu.onnx"
    onnx.save(hardened(model), path)
    return path


def sum_of(folder: Path, locations: Sequence[str]) -> Path:
    """x -> JumpReLU -> y, plus the number at each location."""
    names = [f"t{number}" for number in range(len(locations))]
    nodes = [node("Relu", "x", "h"), node("Sum", " ".join(["h", *names]), "y")]
    model = make_model(nodes, [value("x", FLOAT, ["N", 1])], [value("y", FLOAT, ["N", 1])])
    model.graph.initializer.extend(map(tensor_at, locations, names))
    return written(folder, model, locations)


def everywhere(folder: Path) -> Path:
    """A model with external data in each place where a tensor may stand."""
    dense = iter(f"{number}.py" for number in range(100))

    def tensor() -> onnx.TensorProto:
        return tensor_at(next(dense))

    def sparse() -> onnx.SparseTensorProto:
        return onnx.SparseTensorProto(values=tensor(), indices=tensor(), dims=[1])

    def constant() -> onnx.NodeProto:
        return node("Constant", "", "c", value=tensor())

    inner = onnx.helper.make_graph([constant()], "inner", [], [value("c", FLOAT, [1])], [tensor()])
    odd = node("Odd", "x", "o", tensors=[tensor(), tensor()], graphs=[inner, inner], sparse=sparse())
    odd.domain = "elsewhere"
    odd.attribute.append(
        onnx.AttributeProto(name="more", type=onnx.AttributeProto.SPARSE_TENSORS, sparse_tensors=[sparse()])
    )
    local = function("Local", "x", "c", [constant()])
    nodes = [node("Relu", "x", "y"), constant(), odd]
    model = make_model(
        nodes, [value("x", FLOAT, [1])], [value("y", FLOAT, [1])], functions=[local], domains=["elsewhere"]
    )
    model.graph.initializer.append(tensor())
    model.graph.sparse_initializer.append(sparse())
    model.training_info.add().algorithm.initializer.append(tensor())
    return written(folder, model, [one.external_data[0].value for one in all_tensors(model)])


@EACH_SERVER
def test_no_name_in_the_folder_comes_from_the_model(server: Any, tmp_path: Path) -> None:
    locations = [*EVIL, *TAKEN, *ODD]
    model = sum_of(tmp_path / "evil", [*locations, "./kserve.py"])
    report = deploy(model, server, tmp_path / "out")
    path = next(name for name in report.files if name.endswith(".onnx"))
    names = ["model.data", *(f"model.{number}.data" for number in range(1, len(locations)))]
    data = {path.replace("model.onnx", name) for name in names}
    files = {file.relative_to(report.output).as_posix() for file in report.output.rglob("*") if not file.is_dir()}
    assert files - {"README.md", "SHA256SUMS", ".jr-onnx-deploy.json"} == OURS[server] | data
    assert set(report.files) == files - {"SHA256SUMS"}
    got = onnxruntime.InferenceSession(report.output / path).run(None, {"x": np.ones((1, 1), np.float32)})[0]
    assert got.tolist() == [[1 + 2 ** len(locations) - 1 + 1]]


@EACH_SERVER
def test_only_the_locations_change_in_the_model_wherever_its_tensors_stand(server: Any, tmp_path: Path) -> None:
    model = everywhere(tmp_path / "evil")
    report = deploy(model, server, tmp_path / "out", check=False)  # no runtime loads it
    path = next(report.output.rglob("model.onnx"))
    served, original = onnx.load(path, load_external_data=False), onnx.load(model, load_external_data=False)
    pairs = list(zip(*(list(filter(is_external, all_tensors(one))) for one in (served, original)), strict=True))
    assert len(pairs) == 16
    for one, other in pairs:
        location, was = one.external_data[0], other.external_data[0]
        assert (path.parent / location.value).read_bytes() == (model.parent / was.value).read_bytes()
        assert location.value.startswith("model.")
        location.value = was.value
    assert served.SerializeToString(deterministic=True) == original.SerializeToString(deterministic=True)


def test_a_model_without_external_data_is_copied_byte_for_byte_and_so_is_its_mode(tmp_path: Path) -> None:
    model = sum_of(tmp_path, [])
    model.chmod(0o600)
    deploy(model, "kserve", tmp_path / "out")
    copy = tmp_path / "out" / "model.onnx"
    assert copy.read_bytes() == model.read_bytes()
    assert copy.stat().st_mode & 0o777 == 0o600


def test_data_that_only_the_owner_may_read_stay_so(tmp_path: Path) -> None:
    model = sum_of(tmp_path / "evil", ["weights"])
    (model.parent / "weights").chmod(0o640)
    model.chmod(0o444)
    deploy(model, "kserve", tmp_path / "out")
    modes = [(tmp_path / "out" / name).stat().st_mode & 0o777 for name in ("model.data", "model.onnx")]
    assert modes == [0o640, 0o444]


def test_a_tensor_with_two_locations_is_refused(tmp_path: Path) -> None:
    model = sum_of(tmp_path / "evil", ["weights"])
    proto = onnx.load(model, load_external_data=False)
    proto.graph.initializer[0].external_data.insert(0, onnx.StringStringEntryProto(key="location", value="../up"))
    model.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match="several files"):
        deploy(model, "kserve", tmp_path / "out")
    assert not (tmp_path / "out").exists()
