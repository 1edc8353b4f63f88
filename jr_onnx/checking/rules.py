"""The rules as data; docs/rules.md is written from this table (see `tools/rules_document.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        id: never given to another rule.
        name: a word for people.
        severity: of its findings.
        means: what a finding says.
        why: why that matters.
        fix: what to do.
    """

    id: str
    name: str
    severity: Severity
    means: str
    why: str
    fix: str


NOT_RUN = "JR001"
UNCONVERTED = "JR101"
UNPLANNED = "JR102"
NODES = "JR103"
ORDER = "JR104"
OPERATOR = "JR105"
EDGE = "JR106"
NODE_NAME = "JR107"
INITIALIZER = "JR108"
WEIGHTS = "JR109"
INTERFACE = "JR110"
DECLARED_TYPE = "JR111"
METADATA = "JR112"
FUNCTION = "JR113"
BODY = "JR114"
OPSETS = "JR115"
IR_VERSION = "JR116"
JUMP = "JR117"
OTHER = "JR118"
EXTERNAL = "JR119"
OTHER_ORIGINAL = "JR120"
LEFT_BY_RECORD = "JR121"
NOTHING_PLANNED = "JR122"
NOT_HARDENED = "JR123"
CHECKER = "JR201"
INFERENCE = "JR202"
SITE_VALUES = "JR301"
NOT_EXERCISED = "JR302"
NEW_NAN = "JR401"
JUMP_ZERO = "JR402"
LOADING = "JR501"
PLACEMENT = "JR502"
COPIES = "JR503"

#: What only a comparison with ORIGINAL can find.
NEEDS_ORIGINAL = (
    NODES,
    ORDER,
    OPERATOR,
    EDGE,
    NODE_NAME,
    INITIALIZER,
    WEIGHTS,
    INTERFACE,
    DECLARED_TYPE,
    FUNCTION,
    IR_VERSION,
    OTHER,
    OTHER_ORIGINAL,
    LEFT_BY_RECORD,
    NOTHING_PLANNED,
)
#: What is found by running the model: the sites, the whole against ORIGINAL, and where it runs.
SITES = (SITE_VALUES, NOT_EXERCISED)
WHOLE = (NEW_NAN, JUMP_ZERO)
PLACES = (PLACEMENT, COPIES)
RUNNING = (*SITES, *WHOLE, LOADING, *PLACES)
VALIDITY = (CHECKER, INFERENCE)

_RECONVERT = "Convert the original again; if the change is wanted, make it in the original first."

_TABLE = (
    Rule(
        NOT_RUN,
        "not-run",
        "warning",
        "A check that was asked for could not run; the message says why.",
        "What was not looked at must not count as clean.",
        "Install or give what the message names (--policy, --data, --shape), or say that it is not wanted "
        "(--no-library, --no-run).",
    ),
    Rule(
        UNCONVERTED,
        "site-not-converted",
        "error",
        "A Relu that the plan converts still is a Relu, or there are fewer JumpReLU than the file records.",
        "One plain Relu is where small activations get through again.",
        _RECONVERT,
    ),
    Rule(
        UNPLANNED,
        "site-not-planned",
        "error",
        "A node that the plan leaves alone is a JumpReLU.",
        "It changes values that nobody asked to change, and costs accuracy.",
        "Convert the original again, with --exclude for what must stay. If the file was converted twice, the second "
        "time with fewer sites, check it against the file that it was made from.",
    ),
    Rule(
        NODES,
        "nodes",
        "error",
        "A node of the original is missing, or there is one that neither the original nor the plan has.",
        "The file is another network.",
        _RECONVERT,
    ),
    Rule(
        ORDER,
        "node-order",
        "error",
        "The same nodes stand in another order.",
        "Tools that address nodes by index, and profiles that are compared by line, meet other nodes.",
        _RECONVERT,
    ),
    Rule(
        OPERATOR,
        "node-changed",
        "error",
        "A node has another operator, another domain, or other attributes, metadata or doc string.",
        "It computes something else, or has lost what the exporter recorded about it.",
        _RECONVERT,
    ),
    Rule(
        EDGE,
        "edge",
        "error",
        "A node reads or gives other values than the plan says.",
        "Swapped inputs load, run, and give wrong results.",
        _RECONVERT,
    ),
    Rule(
        NODE_NAME,
        "node-name",
        "error",
        "A node has another name, or shares its name with another node of its graph, where the original does not.",
        "Quantization settings, policies and profiles find nodes by name.",
        "Give every node a name of its own in the original, then convert again.",
    ),
    Rule(
        INITIALIZER,
        "initializer",
        "error",
        "A constant of the graph is missing, is new, or has another type or shape.",
        "The nodes that read it compute something else, or fail.",
        _RECONVERT,
    ),
    Rule(
        WEIGHTS,
        "weights",
        "error",
        "The bytes of a tensor are not the original's.",
        "It is another network, whatever its accuracy looks like; this is how a backdoor would get in.",
        _RECONVERT,
    ),
    Rule(
        INTERFACE,
        "interface",
        "error",
        "An input or an output of the model is missing, is new, or has another name, type or shape.",
        "Callers feed and fetch by these names and types.",
        _RECONVERT,
    ),
    Rule(
        DECLARED_TYPE,
        "declared-type",
        "error",
        "The type or shape that the file declares for an inner value is not the original's.",
        "A stale shape makes a runtime plan wrong buffers, or reject the model.",
        _RECONVERT,
    ),
    Rule(
        METADATA,
        "metadata",
        "error",
        "What jr-onnx records about a conversion is missing, damaged, or not true of this file.",
        "Without it nobody can tell what was converted, from what, and with which jump.",
        "Convert again, and keep metadata_props in the steps after it.",
    ),
    Rule(
        FUNCTION,
        "function",
        "error",
        "A model-local function is missing, is new, or has another signature.",
        "Every node that calls it computes something else.",
        _RECONVERT,
    ),
    Rule(
        BODY,
        "function-body",
        "error",
        "The body of jr_onnx::JumpReLU is not the one that jr-onnx ships for this opset, or is missing.",
        "Without the kernel library the body is what runs: a tampered one defends nothing, and no test with the "
        "library shows it.",
        "Convert again.",
    ),
    Rule(
        OPSETS,
        "opset-import",
        "error",
        "The imported operator sets are not what the plan says, or a node's domain is not imported.",
        "Another version gives operators another meaning; a missing one makes runtimes reject the model.",
        _RECONVERT,
    ),
    Rule(
        IR_VERSION,
        "ir-version",
        "error",
        "The IR version is not what the plan says.",
        "A higher one than needed shuts out older runtimes; a lower one makes local functions illegal.",
        _RECONVERT,
    ),
    Rule(
        JUMP,
        "jump",
        "error",
        "A site's jump, or the recorded one, is not the one that was asked for, to the last bit, or is not a constant.",
        "The jump is the defence: robustness and accuracy were measured with another one.",
        "Convert again with the jump that is meant, or check with the one that the file has.",
    ),
    Rule(
        OTHER,
        "other-field",
        "error",
        "Something else differs: doc strings, names of the model, other metadata, quantization annotations, training "
        "information, unknown fields.",
        "A conversion changes nothing but its sites.",
        _RECONVERT,
    ),
    Rule(
        EXTERNAL,
        "external-data",
        "error",
        "An external data file is missing, too short or outside the model's folder, or a tensor's data lie elsewhere "
        "in it than in the original's.",
        "The model does not load, or loads what somebody else put there.",
        "Put the data files of the original beside the hardened model; jr-onnx convert does it.",
    ),
    Rule(
        OTHER_ORIGINAL,
        "other-original",
        "error",
        "The file records that it was converted from a model with another structure than ORIGINAL.",
        "The pair that is compared is not a pair.",
        "Give the model that was converted; jr-onnx inspect shows the digest that is recorded.",
    ),
    Rule(
        LEFT_BY_RECORD,
        "left-by-record",
        "warning",
        "Sites of the original are left alone because of a filter that the file itself records, and that the check was "
        "not asked for.",
        "Whoever made the file decides by its record what it is checked for; what was left out still is a Relu.",
        "If they are meant to stay, say so with --include or --exclude; else convert the original again.",
    ),
    Rule(
        NOTHING_PLANNED,
        "nothing-planned",
        "warning",
        "The plan converts no site, though the original has some that can be converted.",
        "Such a file is the original itself, with a name that promises more.",
        "Convert the original again, with a filter or a policy that leaves something to convert.",
    ),
    Rule(
        NOT_HARDENED,
        "not-hardened",
        "error",
        "The file has no JumpReLU and no record that it was converted: it is an original, or the files are exchanged.",
        "Nothing in it defends anything.",
        "Give ORIGINAL first and HARDENED second, or convert the model.",
    ),
    Rule(
        CHECKER,
        "onnx-checker",
        "error",
        "onnx.checker rejects the hardened model, or it cannot be read as one.",
        "So will other tools, and runtimes that are stricter than onnxruntime.",
        "If the original is rejected as well (the message says so), export it again; else report a bug.",
    ),
    Rule(
        INFERENCE,
        "shape-inference",
        "error",
        "Strict shape inference fails: declared shapes or types contradict the operators.",
        "A stale shape makes a runtime plan wrong buffers, or reject the model.",
        "If the original fails as well (the message says so), export it again; else report a bug.",
    ),
    Rule(
        SITE_VALUES,
        "site-values",
        "error",
        "A JumpReLU gives a value that is not JumpReLU of its input, bit for bit.",
        "The runtime, the kernel or the file does not do what the model says.",
        "Try without the library, on the CPU and with another onnxruntime to see which of them it is.",
    ),
    Rule(
        NOT_EXERCISED,
        "not-exercised",
        "warning",
        "No value that reached a JumpReLU in this model's runs was above its jump, so it only ever gave 0.",
        "Either the inputs are unlike real ones, or the jump silences this site for good.",
        "Give real inputs with --data; if it stays so, choose a smaller jump for this site.",
    ),
    Rule(
        NEW_NAN,
        "new-nan",
        "error",
        "An output is NaN where the original's is not.",
        "JumpReLU lets NaN through and makes none.",
        "Look at the site findings; report a bug if there are none.",
    ),
    Rule(
        JUMP_ZERO,
        "jump-zero",
        "error",
        "With every jump at 0 the outputs are not the original's, within the computed tolerance.",
        "JumpReLU at 0 is Relu, so something else than the jumps changes the outputs.",
        "Look at the structure findings; report a bug if there are none.",
    ),
    Rule(
        LOADING,
        "loading",
        "error",
        "onnxruntime does not load the hardened model at one of its optimisation levels, or does not run it.",
        "It cannot be served so.",
        "Upgrade onnxruntime, or convert with --target subgraph.",
    ),
    Rule(
        PLACEMENT,
        "placement",
        "error",
        "A JumpReLU does not run on the provider that was asked for.",
        "A hidden fallback to the CPU costs more than JumpReLU itself.",
        "Install jr-onnx with kernels for the provider; see jr-onnx info.",
    ),
    Rule(
        COPIES,
        "device-copies",
        "error",
        "onnxruntime copies values between devices around a JumpReLU.",
        "Each copy waits for the device.",
        "Look at the operators around it: one of them has no kernel on the provider.",
    ),
)

RULES: Mapping[str, Rule] = {rule.id: rule for rule in _TABLE}
