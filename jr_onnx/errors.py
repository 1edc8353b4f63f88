"""Every error that a user's input can cause. Anything else that is raised is a bug and keeps its traceback."""

from __future__ import annotations


class JrOnnxError(Exception):
    """The root: the message is one line that names the file, node or value, and says what to do about it."""


class ModelError(JrOnnxError):
    """The input is not a model that can be converted: unreadable, damaged, or beyond what is supported.

    Attributes:
        named: whether the message names the file already.
    """

    named = False


class OptionError(JrOnnxError):
    """What was asked for makes no sense for this model: a jump, a policy, a pattern or a target."""


class OutputError(JrOnnxError):
    """The output cannot be written where it was asked for."""


class RuntimeMissingError(JrOnnxError):
    """onnxruntime, an execution provider, or the kernel library for it is not there."""


class RequestError(JrOnnxError):
    """A request to a served model does not fit it."""


class WorkerError(JrOnnxError):
    """A process that was to do a part of the work is gone."""
