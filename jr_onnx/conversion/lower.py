"""From a plan to the edits that carry it out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from jr_onnx.conversion.edits import ModelEdit
from jr_onnx.conversion.element_types import DOUBLE, FLOAT, NUMPY_TYPES, round_jump, type_name
from jr_onnx.conversion.forms.quantized import CALLS, QUANTIZED_JUMP_RELU, quantized_function_proto, quantizer_domain
from jr_onnx.conversion.forms.recurrent import with_threshold, without_threshold
from jr_onnx.conversion.forms.table import FUNCTIONS_IR_VERSION, JUMP_RELU, RECURRENT, RELU
from jr_onnx.conversion.forms.write import (
    Binding,
    NewNode,
    function_proto,
    is_jump_relu,
    main_position,
    without_relu,
    write_ops,
)
from jr_onnx.conversion.graph.names import (
    DOMAIN,
    PREFIX,
    QUANTIZED_OP_TYPE,
    Namer,
    initializer_names,
    outputs_of,
    own_operator,
    taken_names,
)
from jr_onnx.conversion.graph.scopes import FREE_INITIALIZERS, Scope
from jr_onnx.conversion.metadata import jump_input_of, origin_digest
from jr_onnx.conversion.options import Options, provenance
from jr_onnx.conversion.plan import Plan, PlannedSite, jump_shape, make_plan, options_to_record
from jr_onnx.conversion.quantization import Quantization
from jr_onnx.conversion.sites.matchers import SiteKind
from jr_onnx.conversion.sites.survey import Site
from jr_onnx.conversion.sites.surveyed import wiring_of
from jr_onnx.errors import ModelError, OptionError

#: The IR versions that a conversion may raise a model to.
RAISED_TO = (FREE_INITIALIZERS, FUNCTIONS_IR_VERSION)


def planned_edit(model: onnx.ModelProto, digest: str, options: Options) -> tuple[Plan, ModelEdit]:
    """The plan for a model, and the edits that carry it out, with the record of where it comes from.

    Args:
        model: the model, or its skeleton; `check_convertible` has passed it.
        digest: of the skeleton.

    Raises:
        ModelError: an opset is not supported, or a selected site's element type is unknown.
        OptionError: an option makes no sense for this model.
    """
    plan = make_plan(model, options)
    edit = Lowering(model, plan, options).edit()
    recorded, origin = options_to_record(plan, options), origin_digest(model, digest)
    edit.metadata = provenance(recorded, len(plan.sites), origin, edit.jump_input)
    return plan, edit


class Lowering:
    """Grows the edit for one plan, site by site; sites share the constants that they can share.

    Args:
        least_ir_version: the IR version that the model is raised to, also where the plan needs none.
    """

    def __init__(self, model: onnx.ModelProto, plan: Plan, options: Options, least_ir_version: int = 0) -> None:
        self._model = model
        self._plan = plan
        self._options = options
        self._main = plan.scopes[0]
        self._edit = ModelEdit()
        self._unused = _unused(model, plan)
        # The names inside jr_onnx::JumpReLU are its own: its input is called "jump" too.
        taken = taken_names((scope for scope in plan.scopes if not _is_ours(scope)), _rewritten(plan))
        taken |= {name for planned in plan.sites for name in (planned.site.name, planned.site.output)}
        self._namer = Namer(taken - self._unused)
        self._shared: dict[object, str] = {}
        self._ir_version = model.ir_version
        self._least_ir_version = least_ir_version

    def edit(self) -> ModelEdit:
        """The edits that make the model what the plan says; the metadata are left to the caller.

        Raises:
            OptionError: the name for the jump input is taken.
        ModelError: a JumpReLU of integers is to be reverted, and what it was put behind is not found.
        """
        self._raise_ir_version()
        self._drop_unused()
        if self._options.jump_input is not None and self._plan.sites:
            self._add_jump_input(self._options.jump_input)
        for planned in self._plan.sites:
            self._write_site(planned)
        self._set_function()
        return self._edit

    def _raise_ir_version(self) -> None:
        needed = self._least_ir_version
        if any(p.form.calls for p in self._plan.sites):
            needed = max(needed, FUNCTIONS_IR_VERSION)
        if self._options.jump_input is not None and self._plan.sites:
            needed = max(needed, FREE_INITIALIZERS)
        if needed > self._ir_version:
            self._edit.raise_ir_version(needed, self._plan.scopes)
            self._ir_version = needed

    def _drop_unused(self) -> None:
        self._edit.dropped = self._unused
        self._edit.at(self._main).dropped_inputs |= self._unused
        before = jump_input_of(self._model)
        self._edit.jump_input = None if before in self._unused else before
        for scope in self._plan.scopes:
            for index, node in enumerate(scope.nodes):
                if node.output and set(node.output) <= self._unused:
                    self._edit.at(scope).replaced[index] = ()

    def _add_jump_input(self, name: str) -> None:
        reached = [p for p in self._plan.sites if p.form is not RECURRENT]
        if not reached:
            raise OptionError("`jump_input`: there is no site that a graph input can reach; leave it out")
        if not name.isprintable():
            raise OptionError(f"`jump_input`: {name!r} is no name for an input; give another")
        if not name or self._namer.fresh(name) != name:
            raise OptionError(f"`jump_input`: the model has a value '{name}' already; give another name")
        types = {p.site.jump_type for p in reached}
        widest = DOUBLE if DOUBLE in types else FLOAT
        element_type = types.pop() if len(types) == 1 else widest
        asked = reached[0].asked
        jump = round_jump(asked if isinstance(asked, float) else asked[0], element_type)
        self._edit.jump_input = name
        self._edit.initializers[name] = np.asarray(jump, NUMPY_TYPES[element_type])
        self._edit.new_input = onnx.helper.make_tensor_value_info(name, element_type, [])
        self._shared["jump input", element_type] = name

    def _write_site(self, planned: PlannedSite) -> None:
        site = planned.site
        replaced = self._edit.at(site.scope).replaced
        last = site.nodes[-1]
        node = site.scope.nodes[last]
        if planned.form is RELU and self._took_away(site):
            return
        if planned.form is RELU and site.quantization is not None:
            raise ModelError(
                f"node '{site.path}': what was in front of this JumpReLU of integers is changed; use the original"
            )
        if site.kind is SiteKind.RECURRENT:
            back = planned.form is RELU
            attributes, marks = (without_threshold(node), {}) if back else with_threshold(node, _scalar(planned))
            replaced[last] = (_changed(node, last, attributes=attributes, marks=marks),)
            return
        # Between DequantizeLinear and QuantizeLinear the Relu stays: onnxruntime fuses int8 only where one node alone
        # takes what is dequantized.
        rectified = (
            site.quantization is None and (site.rectified or site.behind is not None) and planned.form is not RELU
        )
        ops = without_relu(planned.form.ops) if rectified else planned.form.ops
        values = self._values(planned, {symbol for op in ops for symbol in op.inputs})
        carrier = site.hardened.carrier if site.hardened else last
        replaces = {main_position(ops): carrier}
        front: tuple[NewNode, ...] = ()
        again = site.hardened is not None and site.hardened.form is planned.form
        if site.hardened is not None and again:
            # The same form: only its jump changes, so every node and every inner value keeps its name.
            replaces = dict(enumerate(site.nodes))
            values = {**site.hardened.values, **values}
        elif site.behind is not None:
            replaces = {}  # the node in front has kept the name
        elif site.kind.stays:
            replaces = {}
            values["x"] = self._namer.fresh(f"{site.output}/rectified")
            outputs = tuple(values["x"] if name == site.output else name for name in node.output)
            front = (_changed(node, last, outputs=outputs),)
        mark = "" if planned.form.calls or planned.form is RELU else planned.form.name
        rank = len(site.shape or ())
        binding = Binding(values, site.jump_type, _scalar(planned), site.name, mark, replaces, rank)
        nodes = write_ops(ops, binding, self._namer.fresh)
        if again:
            replaced.update({index: (new,) for index, new in zip(site.nodes, nodes, strict=True)})
        else:
            replaced.update(dict.fromkeys(site.nodes, ()))
            replaced[last] = (*front, *nodes)

    def _took_away(self, site: Site) -> bool:
        """Take a JumpReLU away that was put behind a node, which gives the site's output again, if all is as it was."""
        if site.behind is None or set(wiring_of(site.scope).consumers[site.input]) - set(site.nodes):
            return False
        replaced, front = self._edit.at(site.scope).replaced, site.behind.nodes[-1]
        node = site.scope.nodes[front]
        outputs = tuple(site.output if name == site.input else name for name in node.output)
        replaced.update(dict.fromkeys(site.nodes, ()))
        replaced[front] = (_changed(node, front, outputs=outputs),)
        return True

    def _values(self, planned: PlannedSite, symbols: set[str]) -> dict[str, str]:
        """The names of what a site takes and gives; constants are made where there are none to share."""
        site, dtype = planned.site, NUMPY_TYPES[planned.site.jump_type]
        values = {"x": site.input, "y": site.output}
        if site.quantization is not None:
            values |= self._quantized_values(planned, site.quantization, symbols)
            symbols = symbols - values.keys()
        if "zero" in symbols:
            values["zero"] = self._constant(site.scope.outermost, "zero", np.asarray(0, dtype))
        if "jump" in symbols and self._options.jump_input is not None:
            values["jump"] = self._jump_input(site.jump_type)
        elif "jump" in symbols and self._options.recognise and site.hardened is not None:
            values["jump"] = site.hardened.values["jump"]  # the very tensor that the model has
        elif "jump" in symbols:
            jump = np.asarray(planned.jump, dtype)
            if isinstance(planned.jump, tuple):
                jump = jump.reshape(jump_shape(site, len(planned.jump)))
            values["jump"] = self._constant(site.scope.outermost, "jump", jump)
        return values

    def _quantized_values(self, planned: PlannedSite, quantization: Quantization, symbols: set[str]) -> dict[str, str]:
        """What a site of integers takes beside them; a threshold where its form compares integers."""
        site, owner = planned.site, planned.site.scope.outermost
        zero_point = quantization.zero_point_name
        if not zero_point and "zero_point" in symbols:
            zero_point = self._constant(owner, "zero_point", np.asarray(quantization.zero_point, quantization.dtype))
        if not planned.form.calls:
            return {"scale": quantization.scale_name, "zero_point": zero_point}
        threshold = np.vectorize(quantization.threshold, otypes=[quantization.dtype])(planned.jump)
        if threshold.ndim and planned.form is QUANTIZED_JUMP_RELU:
            threshold = threshold.reshape(jump_shape(site, len(threshold)))
        return {"jump": self._constant(owner, "threshold", threshold), "zero_point": zero_point}

    def _constant(self, owner: Scope, kind: str, value: npt.NDArray[Any]) -> str:
        """An initializer of the main graph, which the bodies in it see too; in a function, a Constant node."""
        key = (owner, kind, value.dtype, value.shape, value.tobytes())
        if key not in self._shared:
            name = self._shared[key] = self._namer.fresh(f"{PREFIX}{kind}")
            if owner.function is not None or self._ir_version < FREE_INITIALIZERS:
                self._edit.at(owner).first.append(NewNode("Constant", (), (name,), attributes={"value": value}))
            else:
                self._edit.initializers[name] = value
        return self._shared[key]

    def _jump_input(self, element_type: int) -> str:
        """The jump input in an element type: itself, or a Cast of it."""
        key = ("jump input", element_type)
        if key not in self._shared:
            name = self._shared[key] = self._namer.fresh(f"{PREFIX}jump.{type_name(element_type)}")
            cast = NewNode("Cast", (str(self._options.jump_input),), (name,), attributes={"to": element_type})
            self._edit.at(self._main).first.append(cast)
        return self._shared[key]

    def _set_function(self) -> None:
        users = {p.site.scope.outermost for p in self._plan.sites if p.form.calls}  # of the domain
        still_called: set[str] = set()
        for scope in self._plan.scopes:
            edit = self._edit.scopes.get(scope)
            kept = (node for i, node in enumerate(scope.nodes) if edit is None or i not in edit.replaced)
            for node in kept:
                if node.domain == DOMAIN:
                    users.add(scope.outermost)
                    still_called.add(node.op_type)
        if self._plan.body is not None:
            element_type = next(p.site.element_type for p in self._plan.sites if p.form is JUMP_RELU)
            self._edit.functions.append(function_proto(self._plan.body, self._main.opset, element_type))
        if any(p.form in CALLS for p in self._plan.sites):
            self._edit.functions.append(quantized_function_proto(self._main.opset, self._quantizer_domain()))
        still_called -= {function.name for function in self._edit.functions}  # these are the new ones
        ours = {function.name for function in filter(is_jump_relu, self._model.functions)}
        self._edit.dropped_functions = ours - still_called
        others = any(f.domain == DOMAIN and not is_jump_relu(f) for f in self._model.functions)
        for scope in self._plan.scopes:
            # A model that holds a function must import its domain, even if only other functions call it.
            wanted = bool(users) or others if scope is self._main else scope in users
            if scope.parent is None and wanted != (DOMAIN in scope.opsets) and not _is_ours(scope):
                self._edit.at(scope).imports = wanted

    def _quantizer_domain(self) -> str:
        """The domain of the QuantizeLinear that takes what the function jr_onnx::QuantizedJumpReLU is called with."""
        called = (f for f in self._model.functions if own_operator(f.domain, f.name) == QUANTIZED_OP_TYPE)
        known = [str(opset.domain) for function in called for opset in function.opset_import if opset.domain]
        types = {p.site.element_type for p in self._plan.sites if p.form in CALLS}
        return max((*known, *(quantizer_domain(one, self._main.opset) for one in types)))


def _unused(model: onnx.ModelProto, plan: Plan) -> set[str]:
    """The values that jr-onnx added before and that nothing takes any more once the plan is carried out."""
    names = {*_all_outputs(plan.scopes), *initializer_names(model.graph)}
    zeros = {p.site.hardened.values.get("zero") for p in plan.sites if p.site.hardened is not None}
    ours = {name for name in names if PREFIX in name or name in zeros}
    jump_input = jump_input_of(model)
    if jump_input is not None and jump_input in set(initializer_names(model.graph)):
        ours.add(jump_input)
    replaced = {(planned.site.scope, index) for planned in plan.sites for index in planned.site.nodes}
    takers = [
        (set(node.output), set(node.input))
        for scope in plan.scopes
        for index, node in enumerate(scope.nodes)
        if (scope, index) not in replaced and not _is_ours(scope)
    ]
    takers += [(set(), outputs_of(scope)) for scope in plan.scopes]
    while ours:
        used = {name for outputs, inputs in takers if not outputs or not outputs <= ours for name in inputs}
        kept = ours & used
        if not kept:
            break
        ours -= kept
    return ours


def _rewritten(plan: Plan) -> set[tuple[Scope, int]]:
    """The nodes of forms that another form takes the place of: the names inside are free again."""
    sites = [p.site for p in plan.sites if p.site.hardened is not None and p.site.hardened.form is not p.form]
    return {(site.scope, index) for site in sites for index in site.nodes}


def _all_outputs(scopes: Iterable[Scope]) -> Iterable[str]:
    return (name for scope in scopes for node in scope.nodes if not _is_ours(scope) for name in node.output)


def _is_ours(scope: Scope) -> bool:
    """Whether this is a function that jr-onnx wrote."""
    return is_jump_relu(scope.outermost.function)


def _scalar(planned: PlannedSite) -> float:
    return 0.0 if isinstance(planned.jump, tuple) else planned.jump


def _changed(
    node: onnx.NodeProto, index: int, *, outputs: tuple[str, ...] = (), attributes: Any = None, marks: Any = None
) -> NewNode:
    """A node that stays what it is, but for its outputs, or for some attributes and marks."""
    outputs = outputs or tuple(node.output)
    return NewNode(node.op_type, tuple(node.input), outputs, node.domain, "", attributes or {}, index, marks or {})
