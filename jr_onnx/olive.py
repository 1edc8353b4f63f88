"""JumpReLU as a pass of Olive: `olive run --package-config` finds it by what `package_config` gives.

    python -c "import json, jr_onnx.olive; print(json.dumps(jr_onnx.olive.package_config()))" > olive_config.json
    olive run --config workflow.json --package-config olive_config.json

where a workflow has it among its passes: {"harden": {"type": "JumpRelu", "jump": 0.5}}. The parameters are those of
`jr_onnx.convert`, which does the work: weights are not parsed, and the external data are copied beside the output.
Source: https://microsoft.github.io/Olive/reference/options.html, "--package-config".
"""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any

from olive.hardware.accelerator import AcceleratorSpec
from olive.model import ONNXModelHandler
from olive.model.utils import resolve_onnx_path
from olive.package_config import OlivePackageConfig
from olive.passes import Pass
from olive.passes.pass_config import BasePassConfig, PassConfigParam

from jr_onnx.conversion.convert import convert
from jr_onnx.conversion.forms.table import Target

_TYPE = "JumpRelu"

#: Parameter -> its type, its default, and what it is.
_PARAMETERS: dict[str, tuple[Any, Any, str]] = {
    "jump": (float | list[float], None, "The jump of every site: 0 where x <= jump, x elsewhere."),
    "policy": (str, None, "A YAML file with a jump for each site, instead of one jump."),
    "target": (str, "custom-op", f"What is written: {', '.join(typing.get_args(Target))}."),
    "include": (list[str], [], "Globs: only nodes with such a name or scope path are converted."),
    "exclude": (list[str], [], "Globs: nodes with such a name or scope path are left alone."),
    "jump_input": (str, None, "Make the jump an optional input of the model, of this name."),
    "clip": (bool, False, "Convert Clip(0, c), such as ReLU6, too."),
    "inline": (bool, False, "Write the function's body into the graph."),
    "allow_empty": (bool, False, "A model without a ReLU is no error."),
}


class JumpRelu(Pass):  # type: ignore[misc]  # olive has no type hints where these are checked
    """JumpReLU in place of every ReLU of an ONNX model."""

    @classmethod
    def _default_config(cls, accelerator_spec: AcceleratorSpec) -> dict[str, PassConfigParam]:
        del accelerator_spec  # it is the same for all
        return {
            name: PassConfigParam(type_=kind, default_value=default, description=text)
            for name, (kind, default, text) in _PARAMETERS.items()
        }

    def _run_for_config(
        self, model: ONNXModelHandler, config: BasePassConfig, output_model_path: str
    ) -> ONNXModelHandler:
        output = Path(resolve_onnx_path(output_model_path))
        report = convert(model.model_path, output=output, **{name: getattr(config, name) for name in _PARAMETERS})
        if not report.external_data:
            return ONNXModelHandler(output)
        return ONNXModelHandler(output.parent, onnx_file_name=output.name)


def package_config() -> dict[str, Any]:
    """Olive's own package configuration, with this pass in it; for `--package-config`, or `olive.workflows.run`."""
    config: dict[str, Any] = OlivePackageConfig.load_default_config().model_dump(mode="json")
    everything = {f"supported_{what}": ["*"] for what in ("providers", "accelerators", "precisions")}
    config["passes"][_TYPE.lower()] = {"module_path": f"{__name__}.{_TYPE}", **everything}
    return config
