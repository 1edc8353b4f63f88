"""What a file is that turned out to be no ONNX model in protobuf's wire format: named by its first bytes."""

from __future__ import annotations

import re

from jr_onnx.modelfile.wire import Buffer

#: How many bytes are looked at: at the start, and where a ZIP archive lists its members, at the end.
_HEAD, _TAIL = 4096, 1 << 16

_SAVE = "save it as protobuf with onnx.save(onnx.load(FILE, format='{}'), 'model.onnx')"
_EXPORT = "export the model to ONNX"
_UNPACK = "unpack it and give the ONNX model in it"

#: What a file begins with -> what it is, and what to do about it.
_FORMATS = tuple(
    (re.compile(pattern, re.DOTALL), f"is {what}; {advice}")
    for pattern, what, advice in (
        (rb"version https://git-lfs", "a Git LFS pointer, not the model itself", "get the model with 'git lfs pull'"),
        (rb".{4}ORTM", "onnxruntime's ORT format", "give the ONNX model that it was made from"),
        (rb".{4}TFL3", "a TensorFlow Lite model", _EXPORT),
        (rb"\x1f\x8b", "compressed with gzip", "decompress it first"),
        (rb"BZh", "compressed with bzip2", "decompress it first"),
        (rb"\xfd7zXZ", "compressed with xz", "decompress it first"),
        (rb"\x28\xb5\x2f\xfd", "compressed with zstd", "decompress it first"),
        (rb"7z\xbc\xaf", "a 7z archive", _UNPACK),
        (rb".{257}ustar", "a tar archive", _UNPACK),
        (rb"\x93NUMPY", "an NPY file, an array of NumPy", "give the ONNX model"),
        (rb"\x89HDF", "an HDF5 file, as Keras saves models", _EXPORT),
        (rb"GGUF", "a GGUF file", _EXPORT),
        (rb"\x80[\x02-\x05]", "a pickle, as torch.save wrote it", _EXPORT),
        (rb".{8}\{\"", "a safetensors file, weights without a graph", _EXPORT),
        (rb"(\xef\xbb\xbf)?\s*<\s*ir_version", "an ONNX model as text (onnxtxt)", _SAVE.format("onnxtxt")),
        (rb"(?i)(\xef\xbb\xbf)?\s*<(!doctype\s+html|html|head)", "a web page", "download the model itself"),
        (rb"(\xef\xbb\xbf)?\s*<(\?xml|net)\b", "XML, as OpenVINO saves models", "give the ONNX model"),
        (rb"(\xef\xbb\xbf)?\s*\{.*\"(graph|irVersion)\"", "an ONNX model as JSON", _SAVE.format("json")),
        (rb"(\xef\xbb\xbf)?\s*[\[{]\s*[\"\[{\]}]", "JSON", "give the ONNX model"),
        (
            rb"\s*(#[^\n]*\n\s*)*(ir_version|producer_name|opset_import|graph|model_version|doc_string)\s*[:{]",
            "an ONNX model as text (textproto)",
            _SAVE.format("textproto"),
        ),
        # A model that is damaged further on has zeros, or tags and lengths that are no text, in its first 4 KiB.
        (rb"([\t\n\r -~]|[\xc2-\xf4][\x80-\xbf]{1,3}){8,}[\xc2-\xf4]?[\x80-\xbf]*\Z", "text", "give the ONNX model"),
    )
)

#: What the list of a ZIP archive holds -> what the archive is.
_ARCHIVES = (
    (rb"data\.pkl|constants\.pkl", f"is a PyTorch file; {_EXPORT}"),
    (rb"\.npy", "is an NPZ file, arrays of NumPy; give the ONNX model"),
    (rb"", f"is a ZIP archive; {_UNPACK}"),
)


def other_format(buffer: Buffer) -> str:
    """What the bytes are, and what to do about it; empty if they are nothing that is known.

    Only for what could not be read as a model: some models begin like another format.
    """
    head = bytes(buffer[:_HEAD])
    if head.startswith(b"PK\x03\x04"):
        listed = bytes(buffer[max(0, len(buffer) - _TAIL) :])
        return next(said for pattern, said in _ARCHIVES if re.search(pattern, listed))
    return next((said for pattern, said in _FORMATS if pattern.match(head)), "")
