"""onnxruntime sessions that run JumpReLU by kernel, where they were told to. onnxruntime is imported on first use."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from jr_onnx.arguments import as_list, as_path, unfit
from jr_onnx.errors import ModelError, OptionError, RuntimeMissingError
from jr_onnx.files.source import about, check_is_file, open_file
from jr_onnx.runtime import execution
from jr_onnx.runtime.library import build_info, cuda_problem, register
from jr_onnx.runtime.optimization.machine import made_for, this_machine
from jr_onnx.runtime.placements import record_placement

if TYPE_CHECKING:
    import onnxruntime


CPU, CUDA = execution.CPU, execution.CUDA

#: An execution provider as onnxruntime takes it: its name, or its name and its options.
Provider: TypeAlias = str | tuple[str, Mapping[str, Any]]


def session(
    path: str | Path,
    *,
    providers: Sequence[Provider] | None = None,
    session_options: onnxruntime.SessionOptions | None = None,
    kernels: bool = True,
    library: str | Path | None = None,
    profile: bool = False,
    optimize: bool = False,
) -> onnxruntime.InferenceSession:
    """An onnxruntime session in which JumpReLU runs by the kernels of this package.

    Args:
        path: the hardened model.
        providers: the execution providers to use, the preferred first. Where one of them does not start, that is an
            error: the session does not quietly run elsewhere. None: CUDA where it works, and the CPU.
        session_options: options of your own; the library is registered in them.
        kernels: False runs the function body that the model carries instead: the same values, slower. So do providers
            that compile subgraphs (OpenVINO, TensorRT, CoreML, ...), for which the kernels would cut them to pieces,
            and CUDA with prefer_nhwc, which puts a Transpose on both sides of every custom op. Where the CUDA kernels
            cannot run on the device, the function body runs too, and a warning says why.
        library: the kernels of another build than the installed one, as for `register`.
        profile: record where each node runs, for `jr_onnx.placement`. This makes the session slower.
        optimize: run what `jr_onnx.optimize` makes of the model for this machine's CPU. It is kept in the user's cache
            folder (XDG_CACHE_HOME), and made where it is not there.

    Raises:
        RuntimeMissingError: onnxruntime, a provider, or the kernels for a provider are not there.
        ModelError: there is no such file, the model was optimised for another machine, or cannot be
            optimised. For a model that it does not load, onnxruntime raises its own exceptions.
        OptionError: other providers than the CPU, with `optimize` or for a model that was optimised for the CPU.

    Examples:
        >>> _ = jr_onnx.convert("models/digits.onnx", jump=0.5, output="hard.onnx")
        >>> session = jr_onnx.session("hard.onnx")
        >>> session.run(None, {"image": np.zeros((2, 1, 8, 8), np.float32)})[0].shape
        (2, 10)
    """
    ort = execution.onnxruntime()
    path = as_path("path", path)
    providers = None if providers is None else as_list("providers", providers)
    if optimize:
        path, providers = _optimized(path, providers), [CPU]
    optimised = _made_for_here(path)
    if optimised and providers is not None and list(providers) != [CPU]:
        raise OptionError(f"{path}: was optimised for {CPU} alone; leave `providers` out, or run the hardened model")
    installed = kernels and library is None  # of another build it is not known what it was built with
    default = [CPU] if optimised else default_providers(ort, installed)
    wanted = list(default if providers is None else providers)
    asked = dict(map(_with_options, wanted))
    kernels = kernels and all(execution.has_use_for_kernels(name, options) for name, options in asked.items())
    _check_providers(ort, list(asked), installed and kernels)
    options = session_options or ort.SessionOptions()
    if kernels and CUDA in asked and (problem := cuda_problem(int(asked[CUDA].get("device_id", 0)), library)):
        warnings.warn(f"JumpReLU runs by the function in the model, which is slower: {problem}", stacklevel=2)
        kernels = False
    if kernels:
        register(options, library, cuda=CUDA in asked)
    if profile:
        record_placement(options)
    made = _start(ort, path, options, wanted, optimised=optimised)
    missing = ", ".join(name for name in asked if name not in made.get_providers())
    if missing and providers is not None:
        raise RuntimeMissingError(
            f"onnxruntime could not start {missing} (its own warning says why); check the device, its driver and the "
            "libraries that the provider needs, or leave it out of `providers`"
        )
    if missing:
        warnings.warn(f"onnxruntime could not start {missing}; this session runs on the CPU", stacklevel=2)
    return made


def _start(
    ort: Any, path: Path, options: onnxruntime.SessionOptions, providers: Sequence[Provider], *, optimised: bool
) -> onnxruntime.InferenceSession:
    level = options.graph_optimization_level
    if optimised and level != ort.GraphOptimizationLevel.ORT_DISABLE_ALL:
        # It has been through the higher levels: that takes time, and there is nothing left for them.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        made: onnxruntime.InferenceSession = ort.InferenceSession(str(path), options, providers=providers)
    finally:
        options.graph_optimization_level = level  # the options are the caller's
    made.disable_fallback()
    return made


def _with_options(provider: Provider) -> tuple[str, Mapping[str, Any]]:
    if isinstance(provider, str):
        return provider, {}
    if not isinstance(provider, tuple) or len(provider) != 2:
        raise unfit("providers", provider, "a provider's name, or a pair of it and its options")
    return provider


def _optimized(path: Path, providers: Sequence[Provider] | None) -> Path:
    from jr_onnx.runtime.optimization.cache import cached

    if providers is not None and list(providers) != [CPU]:
        raise OptionError(f"`optimize` is for {CPU} alone; leave it out, or give providers=['{CPU}']")
    return cached(path)


def _made_for_here(path: Path) -> bool:
    """Whether a model was optimised, and for such a machine as this.

    Raises:
        ModelError: there is no such file, it was optimised for another machine, or its record of that is damaged.
    """
    with about(path):
        check_is_file(path)
    with contextlib.ExitStack() as stack:
        try:
            source = stack.enter_context(open_file(path))
        except ModelError:
            return False  # onnxruntime says what is wrong, or reads more than we do
        made = made_for(source.skeleton)
    if made is None:
        return False
    other = made.differences(this_machine(made.level))
    if other:
        raise ModelError(
            f"{path}: was optimised for another machine: here is {other}; make it again from the hardened model, "
            f"here: jr-onnx optimize MODEL --level {made.level} -o {path}"
        )
    return True


def default_providers(ort: Any, kernels: bool) -> list[str]:
    """CUDA where onnxruntime has it and (if kernels are asked for) the kernels do, and the CPU."""
    cuda = CUDA in ort.get_available_providers() and (not kernels or bool(build_info().cuda))
    return [CUDA, CPU] if cuda else [CPU]


def _check_providers(ort: Any, names: Sequence[str], kernels: bool) -> None:
    available = ort.get_available_providers()
    for name in names:
        if name not in available:
            hint = "; CUDA needs the package onnxruntime-gpu in place of onnxruntime" if name == CUDA else ""
            raise RuntimeMissingError(
                f"onnxruntime {ort.__version__}, as installed, has no {name}: it has {', '.join(available)}{hint}"
            )
    if kernels and CUDA in names and not build_info().cuda:
        raise RuntimeMissingError(
            f"the kernels were built without CUDA, so JumpReLU would not run on {CUDA}; install jr-onnx again with "
            "JR_CUDA=ON in the environment, or use kernels=False"
        )
