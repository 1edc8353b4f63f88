"""On which execution provider each JumpReLU ran, from onnxruntime's own profile of the session."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jr_onnx.arguments import unfit
from jr_onnx.conversion.graph.names import ADD_OP_TYPE, OP_TYPE, QUANTIZED_OP_TYPE
from jr_onnx.conversion.graph.scopes import graphs_in
from jr_onnx.errors import RuntimeMissingError

if TYPE_CHECKING:
    import onnx
    import onnxruntime


GRAPH = "graph.onnx"
#: The operators that there are kernels for.
OP_TYPES = (OP_TYPE, QUANTIZED_OP_TYPE, ADD_OP_TYPE)
COPIES = ("MemcpyFromHost", "MemcpyToHost")


@dataclass(frozen=True)
class NodePlacement:
    """Where one JumpReLU ran, and the copies between devices that onnxruntime put right before or after it."""

    node: str
    provider: str
    copies: tuple[str, ...]


def record_placement(options: onnxruntime.SessionOptions) -> None:
    """Let a session record what `placement` reads: a profile, and the graph as onnxruntime runs it."""
    folder = Path(tempfile.mkdtemp(prefix="jr-onnx-placement-"))
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    options.optimized_model_filepath = str(folder / GRAPH)
    # The weights are of no interest here, and a model with weights of over 2 GB could not be written in one file.
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights")
    options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")


def placement(session: onnxruntime.InferenceSession) -> tuple[NodePlacement, ...]:
    """Where each JumpReLU of a session ran. This ends the session's profile, so it can be asked once.

    A JumpReLU that ran by its function body is not listed, because onnxruntime ran other nodes in its place.

    Args:
        session: made by `jr_onnx.session(..., profile=True)`, and run at least once since.

    Raises:
        RuntimeMissingError: the session keeps no profile, or its profile was read before.
    """
    import onnx

    if not hasattr(session, "get_session_options"):
        raise unfit("session", session, "an onnxruntime.InferenceSession")
    folder = Path(session.get_session_options().profile_file_prefix).parent
    if not (folder / GRAPH).is_file():
        raise RuntimeMissingError("there is no profile to read; make the session with session(..., profile=True)")
    try:
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        graph = onnx.load(folder / GRAPH, load_external_data=False).graph
    finally:
        shutil.rmtree(folder)
    return placements(events, graph)


def placements(events: list[dict[str, Any]], graph: onnx.GraphProto) -> tuple[NodePlacement, ...]:
    """The placement of each JumpReLU in a profile's events, with the copies around it in the graph that ran."""
    copies: dict[str, set[str]] = {}
    for scope in _scopes(graph):
        for node in scope.node:
            if node.op_type in OP_TYPES:
                copies.setdefault(node.name, set()).update(_copies_around(node, scope))
    found: dict[str, NodePlacement] = {}
    for event in events:
        args = event.get("args", {})
        if event.get("cat") == "Node" and args.get("op_name") in OP_TYPES and "provider" in args:
            name = event["name"].removesuffix("_kernel_time")
            # The profile gives a nameless node a name of its own: the copies around any such node are then named.
            around = copies.get(name, copies.get("", set()))
            found[name] = NodePlacement(name, args["provider"], tuple(sorted(around)))
    return tuple(found.values())


def _scopes(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for inner in graphs_in(node):
            yield from _scopes(inner)


def _copies_around(node: onnx.NodeProto, graph: onnx.GraphProto) -> Iterator[str]:
    for other in graph.node:
        touches = set(other.output) & set(node.input) or set(other.input) & set(node.output)
        if other.op_type in COPIES and touches:
            yield other.name or other.op_type
