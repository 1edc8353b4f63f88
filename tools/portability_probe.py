"""What portability.py runs in each runtime's venv: python portability_probe.py RUNTIME MODEL, then numbers on stdin.

It needs the runtime and NumPy, and nothing of this package. It prints the output as JSON, or an error and exits with 1.
"""

import json
import sys
from pathlib import Path

import numpy as np


def onnxruntime(model, x, library=None, provider="CPUExecutionProvider"):
    import onnxruntime as ort

    ort.set_default_logger_severity(3)
    options = ort.SessionOptions()
    if library:
        options.register_custom_ops_library(library)
    return ort.InferenceSession(model, options, providers=[provider]).run(None, {"x": x})[0]


def onnxruntime_openvino(model, x):
    return onnxruntime(model, x, provider="OpenVINOExecutionProvider")


def onnx_reference(model, x):
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(model).run(None, {"x": x})[0]


def openvino(model, x):
    import openvino as ov

    return ov.compile_model(ov.Core().read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([x])[0]


def opencv(model, x):
    import cv2

    net = cv2.dnn.readNetFromONNX(model)
    net.setInput(x, "x")
    return net.forward("y")


def tract(model, x):
    import tract

    runnable = tract.onnx().load(model).into_model().into_runnable()
    return runnable.run([x])[0].to_numpy()


RUNTIMES = {
    "onnxruntime": onnxruntime,
    "onnxruntime-openvino": onnxruntime_openvino,
    "onnx": onnx_reference,
    "openvino": openvino,
    "opencv": opencv,
    "tract": tract,
}


def main():
    runtime, model, *library = sys.argv[1:]
    x = np.array([float(word) for word in sys.stdin.read().split()], np.float32)
    try:
        y = RUNTIMES[runtime](model, x.reshape(1, -1), *library)
    except Exception as error:  # noqa: BLE001 (each runtime has classes of its own)
        sys.exit(" ".join(str(error).split()) or type(error).__name__)
    # As text, because JSON has no NaN, infinity and sign of zero.
    print(json.dumps([repr(float(value)) for value in np.asarray(y, np.float32).reshape(-1)]))


if __name__ == "__main__":
    sys.path.remove(str(Path(__file__).parent))
    main()
