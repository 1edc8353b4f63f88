"""onnxruntime's optimised graph as sound ONNX.

onnxruntime makes up names for what it adds, unique within one graph and not within the graphs around it; when it reads
its own file, it makes up the same names again. Of a model before IR version 4, it lists the initializers of bodies as
inputs, which the nodes around them do not feed. So its own file may not load.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import onnx

from jr_onnx.graph.names import Namer, taken_names
from jr_onnx.graph.scopes import Scope, all_scopes, graphs_in
from jr_onnx.graph.structure import defined_names, initializer_names

#: From this IR version on, an initializer need not be an input.
_INITIALIZERS_ALONE = 4

#: In front of the names that it made up, so that it does not make up the same again.
_PREFIX = "onnxruntime."


def make_sound(path: Path, known: Collection[str]) -> None:
    """Give each value that onnxruntime made up a name of its own, and drop inputs that are initializers.

    Args:
        path: the file that onnxruntime wrote; it is written anew where something changes.
        known: the names of the model that it read, which stay.
    """
    model = onnx.load(path, load_external_data=False)
    scopes = tuple(all_scopes(model))
    early = model.ir_version < _INITIALIZERS_ALONE
    graphs = [(scope.graph, scope) for scope in scopes if scope.graph is not None]
    dropped = sum(_drop_inputs(graph) for graph, scope in graphs if scope.parent and (early or _is_branch(scope)))
    made_up = any(name not in known for graph, _ in graphs for name in defined_names(graph))
    if made_up:
        _rename(model.graph, known, {}, Namer(taken_names(scopes)))
    if made_up or dropped:
        path.write_bytes(model.SerializeToString())


def _is_branch(scope: Scope) -> bool:
    """Whether a body is that of an If, which takes no inputs: a file may have them from before IR version 4."""
    return scope.parent is not None and scope.step is not None and scope.parent.nodes[scope.step[0]].op_type == "If"


def _drop_inputs(graph: onnx.GraphProto) -> int:
    """Drop the inputs that are initializers; how many there were."""
    initializers = set(initializer_names(graph))
    listed = [value for value in graph.input if value.name in initializers]
    for value in listed:
        graph.input.remove(value)
    return len(listed)


def _rename(graph: onnx.GraphProto, known: Collection[str], around: Mapping[str, str], namer: Namer) -> None:
    """Rename in a graph and its bodies; `around` are the new names of the values of the graphs around it."""
    own = dict.fromkeys(defined_names(graph))
    names = {name: new for name, new in around.items() if name not in own}
    names |= {name: namer.fresh(f"{_PREFIX}{name}") for name in own if name not in known}
    for named in (*graph.input, *graph.initializer, *graph.output, *graph.value_info):
        named.name = names.get(named.name, named.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for body in graphs_in(node):
            _rename(body, known, names, namer)
