"""Running hardened models: the kernel library, sessions that use it, and where their nodes ran."""

from jr_onnx.runtime.library import BuildInfo, build_info, library_path, register
from jr_onnx.runtime.placements import NodePlacement, placement
from jr_onnx.runtime.sessions import Provider, session

__all__ = [
    "BuildInfo",
    "NodePlacement",
    "Provider",
    "build_info",
    "library_path",
    "placement",
    "register",
    "session",
]
