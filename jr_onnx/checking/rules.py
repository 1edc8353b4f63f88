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


_TABLE: dict[str, Rule] = {}
RULES: Mapping[str, Rule] = _TABLE

_RECONVERT = "Convert the original again; if the change is wanted, make it in the original first."


def _error(identifier: str, name: str, means: str, why: str, fix: str = _RECONVERT) -> str:
    _TABLE[identifier] = Rule(identifier, name, "error", means, why, fix)
    return identifier


def _warning(identifier: str, name: str, means: str, why: str, fix: str) -> str:
    _TABLE[identifier] = Rule(identifier, name, "warning", means, why, fix)
    return identifier


NOT_RUN = _warning(
    "JR001",
    "not-run",
    "A check that was asked for could not run; the message says why.",
    "What was not looked at must not count as clean.",
    "Install or give what the message names (--policy, --data, --shape), or say that it is not wanted "
    "(--no-library, --no-run).",
)
UNCONVERTED = _error(
    "JR101",
    "site-not-converted",
    "A Relu that the plan converts still is a Relu, or there are fewer JumpReLU than the file records.",
    "One plain Relu is where small activations get through again.",
)
UNPLANNED = _error(
    "JR102",
    "site-not-planned",
    "A node that the plan leaves alone is a JumpReLU.",
    "It changes values that nobody asked to change, and costs accuracy.",
    "Convert the original again, with --exclude for what must stay. If the file was converted twice, the second "
    "time with fewer sites, check it against the file that it was made from.",
)
NODES = _error(
    "JR103",
    "nodes",
    "A node of the original is missing, or there is one that neither the original nor the plan has.",
    "The file is another network.",
)
ORDER = _error(
    "JR104",
    "node-order",
    "The same nodes stand in another order.",
    "Tools that address nodes by index, and profiles that are compared by line, meet other nodes.",
)
OPERATOR = _error(
    "JR105",
    "node-changed",
    "A node has another operator, another domain, or other attributes, metadata or doc string.",
    "It computes something else, or has lost what the exporter recorded about it.",
)
EDGE = _error(
    "JR106",
    "edge",
    "A node reads or gives other values than the plan says.",
    "Swapped inputs load, run, and give wrong results.",
)
NODE_NAME = _error(
    "JR107",
    "node-name",
    "A node has another name, or shares its name with another node of its graph, where the original does not.",
    "Quantization settings, policies and profiles find nodes by name.",
    "Give every node a name of its own in the original, then convert again.",
)
INITIALIZER = _error(
    "JR108",
    "initializer",
    "A constant of the graph is missing, is new, or has another type or shape.",
    "The nodes that read it compute something else, or fail.",
)
WEIGHTS = _error(
    "JR109",
    "weights",
    "The bytes of a tensor are not the original's.",
    "It is another network, whatever its accuracy looks like; this is how a backdoor would get in.",
)
INTERFACE = _error(
    "JR110",
    "interface",
    "An input or an output of the model is missing, is new, or has another name, type or shape.",
    "Callers feed and fetch by these names and types.",
)
DECLARED_TYPE = _error(
    "JR111",
    "declared-type",
    "The type or shape that the file declares for an inner value is not the original's.",
    "A stale shape makes a runtime plan wrong buffers, or reject the model.",
)
METADATA = _error(
    "JR112",
    "metadata",
    "What jr-onnx records about a conversion is missing, damaged, or not true of this file.",
    "Without it nobody can tell what was converted, from what, and with which jump.",
    "Convert again, and keep metadata_props in the steps after it.",
)
FUNCTION = _error(
    "JR113",
    "function",
    "A model-local function is missing, is new, or has another signature.",
    "Every node that calls it computes something else.",
)
BODY = _error(
    "JR114",
    "function-body",
    "The body of a function of jr_onnx is not the one that jr-onnx ships for this opset, or is missing.",
    "Without the kernel library the body is what runs: a tampered one defends nothing, and no test with the "
    "library shows it.",
    "Convert again.",
)
OPSETS = _error(
    "JR115",
    "opset-import",
    "The imported operator sets are not what the plan says, or a node's domain is not imported.",
    "Another version gives operators another meaning; a missing one makes runtimes reject the model.",
)
IR_VERSION = _error(
    "JR116",
    "ir-version",
    "The IR version is not what the plan says.",
    "A higher one than needed shuts out older runtimes; a lower one makes local functions illegal.",
)
JUMP = _error(
    "JR117",
    "jump",
    "A site's jump, or the recorded one, is not the one that was asked for, to the last bit, or is not a constant.",
    "The jump is the defence: robustness and accuracy were measured with another one.",
    "Convert again with the jump that is meant, or check with the one that the file has.",
)
OTHER = _error(
    "JR118",
    "other-field",
    "Something else differs: doc strings, names of the model, other metadata, quantization annotations, training "
    "information, unknown fields.",
    "A conversion changes nothing but its sites.",
)
EXTERNAL = _error(
    "JR119",
    "external-data",
    "An external data file is missing, too short or outside the model's folder, or a tensor's data lie elsewhere "
    "in it than in the original's.",
    "The model does not load, or loads what somebody else put there.",
    "Put the data files of the original beside the hardened model; jr-onnx convert does it.",
)
OTHER_ORIGINAL = _error(
    "JR120",
    "other-original",
    "The file records that it was converted from a model with another structure than ORIGINAL.",
    "The pair that is compared is not a pair.",
    "Give the model that was converted; jr-onnx inspect shows the digest that is recorded.",
)
LEFT_BY_RECORD = _warning(
    "JR121",
    "left-by-record",
    "Sites of the original are left alone because of a filter that the file itself records, and that the check "
    "was not asked for.",
    "Whoever made the file decides by its record what it is checked for; what was left out still is a Relu.",
    "If they are meant to stay, say so with --include or --exclude; else convert the original again.",
)
NOTHING_PLANNED = _warning(
    "JR122",
    "nothing-planned",
    "The plan converts no site, though the original has some that can be converted.",
    "Such a file is the original itself, with a name that promises more.",
    "Convert the original again, with a filter or a policy that leaves something to convert.",
)
NOT_HARDENED = _error(
    "JR123",
    "not-hardened",
    "The file has no JumpReLU and no record that it was converted: it is an original, or the files are exchanged.",
    "Nothing in it defends anything.",
    "Give ORIGINAL first and HARDENED second, or convert the model.",
)
CHECKER = _error(
    "JR201",
    "onnx-checker",
    "onnx.checker rejects the hardened model, or it cannot be read as one.",
    "So will other tools, and runtimes that are stricter than onnxruntime.",
    "If the original is rejected as well (the message says so), export it again; else report a bug.",
)
INFERENCE = _error(
    "JR202",
    "shape-inference",
    "Strict shape inference fails: declared shapes or types contradict the operators.",
    "A stale shape makes a runtime plan wrong buffers, or reject the model.",
    "If the original fails as well (the message says so), export it again; else report a bug.",
)
SITE_VALUES = _error(
    "JR301",
    "site-values",
    "A JumpReLU gives a value that is not JumpReLU of its input, bit for bit.",
    "The runtime, the kernel or the file does not do what the model says.",
    "Try without the library, on the CPU and with another onnxruntime to see which of them it is.",
)
NOT_EXERCISED = _warning(
    "JR302",
    "not-exercised",
    "No value that reached a JumpReLU in this model's runs was above its jump, so it only ever gave 0.",
    "Either the inputs are unlike real ones, or the jump silences this site for good.",
    "Give real inputs with --data; if it stays so, choose a smaller jump for this site.",
)
NEW_NAN = _error(
    "JR401",
    "new-nan",
    "An output is NaN where the original's is not.",
    "JumpReLU lets NaN through and makes none.",
    "Look at the site findings; report a bug if there are none.",
)
JUMP_ZERO = _error(
    "JR402",
    "jump-zero",
    "With every jump at 0 the outputs are not the original's, within the computed tolerance.",
    "JumpReLU at 0 is Relu, so something else than the jumps changes the outputs.",
    "Look at the structure findings; report a bug if there are none.",
)
LOADING = _error(
    "JR501",
    "loading",
    "onnxruntime does not load the hardened model at one of its optimisation levels, or does not run it.",
    "It cannot be served so.",
    "Upgrade onnxruntime, or convert with --target subgraph.",
)
PLACEMENT = _error(
    "JR502",
    "placement",
    "A JumpReLU does not run on the provider that was asked for.",
    "A hidden fallback to the CPU costs more than JumpReLU itself.",
    "Install jr-onnx with kernels for the provider; see jr-onnx info.",
)
COPIES = _error(
    "JR503",
    "device-copies",
    "onnxruntime copies values between devices around a JumpReLU.",
    "Each copy waits for the device.",
    "Look at the operators around it: one of them has no kernel on the provider.",
)

_BY_ITSELF = (UNCONVERTED, UNPLANNED, METADATA, BODY, OPSETS, JUMP, EXTERNAL, NOT_HARDENED)
STRUCTURE = tuple(rule for rule in RULES if rule.startswith("JR1"))
#: What only a comparison with ORIGINAL can find.
NEEDS_ORIGINAL = tuple(rule for rule in STRUCTURE if rule not in _BY_ITSELF)
#: What is found by running the model: the sites, the whole against ORIGINAL, and where it runs.
SITES = (SITE_VALUES, NOT_EXERCISED)
WHOLE = (NEW_NAN, JUMP_ZERO)
PLACES = (PLACEMENT, COPIES)
RUNNING = (*SITES, *WHOLE, LOADING, *PLACES)
VALIDITY = (CHECKER, INFERENCE)
