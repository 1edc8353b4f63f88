"""onnxruntime's own optimised graph of a model, as a file.

Source: https://onnxruntime.ai/docs/performance/model-optimizations/graph-optimizations.html
"""

from __future__ import annotations

from pathlib import Path

from jr_onnx.errors import ModelError
from jr_onnx.modelfile.external import data_files
from jr_onnx.modelfile.source import Source
from jr_onnx.running.ways import library_problem, onnxruntime, runtime, session_errors

#: From so many bytes on the weights go into a file of their own: protobuf writes no message of 2 GB. So do those of a
#: model that had such files before: onnxruntime would go on naming them for what it leaves as it is.
_INLINE_LIMIT = 1 << 30

LEVELS = {"basic": "ORT_ENABLE_BASIC", "extended": "ORT_ENABLE_EXTENDED", "all": "ORT_ENABLE_ALL"}

#: It takes a recovered Relu and one that stays a Relu for the same, and only one of their names is left.
_DISABLED = ["CommonSubexpressionElimination"]


def lay_out(model: bytes, hardened: Source, level: str, output: Path, data_name: str, *, kernels: bool = True) -> None:
    """Write the optimised graph of `model`, whose external data are those of the hardened file.

    Args:
        kernels: keep the nodes jr_onnx::JumpReLU, where the kernel library is installed; onnxruntime inlines them else.
        output: the file to write, in a folder where `data_name` is free: there go the weights, if they are many or were
            external before.

    Raises:
        ModelError: onnxruntime does not load the model.
    """
    ort = onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 3  # it warns that the file is for this machine only
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, LEVELS[level])
    options.optimized_model_filepath = str(output)
    options.add_session_config_entry("session.disable_prepacking", "1")  # the session is never run
    path = hardened.path
    data = data_files(hardened.skeleton, path) if path is not None else ()
    if path is not None and data:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    if data or len(model) >= _INLINE_LIMIT:
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", data_name)
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    try:
        if kernels and not library_problem():
            runtime().register(options)
        ort.InferenceSession(model, options, providers=["CPUExecutionProvider"], disabled_optimizers=_DISABLED)
    except session_errors() as error:
        raise ModelError(f"onnxruntime does not load it: {' '.join(str(error).split())}") from error
