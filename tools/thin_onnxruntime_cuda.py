#!/usr/bin/env python3
"""Pack onnxruntime's CUDA provider small enough to carry: keep one GPU architecture, zero the others.

    pip download --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
        --platform manylinux_2_28_x86_64 -d wheels onnxruntime-gpu==1.31.1
    thin_onnxruntime_cuda.py wheels/onnxruntime_gpu-*.whl 90 ort_sm90.tar.xz

libonnxruntime_providers_cuda.so is 284 MB, 218 MB of it fat binaries for every architecture. The payloads of
the architectures that are not named are overwritten with zeros (host code and offsets stay as they are), so
that the whole package compresses from 186 MB to about 60 MB. Say in any result that the provider was thinned.
"""

import io
import lzma
import struct
import sys
import tarfile
import zipfile

FATBIN_MAGIC = 0xBA55ED50
SKIP = ("transformers/", "quantization/", "tools/", "libonnxruntime.so", "providers_tensorrt", "datasets/", "backend/")


def zero_other_architectures(elf: bytearray, keep: set[int]) -> None:
    """Zero the payload of each entry of .nv_fatbin whose architecture is not in `keep`, in place."""
    section_offset = struct.unpack_from("<Q", elf, 40)[0]
    entry_size, count, names_index = struct.unpack_from("<HHH", elf, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", elf, section_offset + i * entry_size) for i in range(count)]
    names = sections[names_index][4]
    for section in sections:
        start = names + section[0]
        if bytes(elf[start : elf.index(0, start)]) != b".nv_fatbin":
            continue
        position, end = section[4], section[4] + section[5]
        while position < end - 16:
            magic, _, header, length = struct.unpack_from("<IHHQ", elf, position)
            if magic != FATBIN_MAGIC:
                position += 8
                continue
            entry, last = position + header, position + header + length
            while entry < last:
                _, _, entry_header, payload = struct.unpack_from("<HHIQ", elf, entry)
                if struct.unpack_from("<I", elf, entry + 28)[0] not in keep:
                    elf[entry + entry_header : entry + entry_header + payload] = bytes(payload)
                entry += entry_header + payload
            position = last


def main(wheel: str, architectures: str, target: str) -> None:
    keep = {int(a) for a in architectures.split(",")}
    with (
        zipfile.ZipFile(wheel) as source,
        lzma.open(target, "wb", preset=6) as packed,
        tarfile.open(fileobj=packed, mode="w|") as archive,
    ):
        for name in source.namelist():
            if name.endswith("/") or any(part in name for part in SKIP):
                continue
            data = bytearray(source.read(name))
            if name.endswith("libonnxruntime_providers_cuda.so"):
                zero_other_architectures(data, keep)
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, io.BytesIO(data))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
