"""Whether a file can be written without damage to the model that it is made from."""

from __future__ import annotations

from pathlib import Path

from jr_onnx.errors import OutputError
from jr_onnx.files.atomic import place_of
from jr_onnx.files.external import DataFile


def check_output(output: Path, source: Path, data: tuple[DataFile, ...], force: bool) -> Path:
    """Refuse an output that would damage the input or its data.

    Returns:
        Where the output is put: a symbolic link is followed.

    Raises:
        OutputError: it would, or it is no file that can be written.
    """
    try:
        if not output.parent.is_dir():
            raise OutputError(f"{output.parent}: no such folder; make it, or choose another `output`")
        if output.is_dir():
            raise OutputError(f"{output}: is a folder; name a file in it as `output`")
        place = place_of(output)
        if place is None:
            raise OutputError(f"{output}: is no regular file; choose another `output`")
        if output.exists() and output.samefile(source) and not force:
            raise OutputError(f"{output}: is the input itself; choose another `output`, or add `force=True`")
        if any(file.outside for file in data) and place.parent.samefile(source.parent):
            raise OutputError(
                f"{output}: the model's external data are links out of this folder, as in Hugging Face's cache; "
                "choose an `output` in another folder"
            )
        for file in data:
            if place == place.parent / file.location or (place.exists() and place.samefile(file.path)):
                raise OutputError(f"{output}: is where the model's external data lies; choose another `output`")
    except OSError as error:
        raise OutputError(f"{output}: cannot be written: {error.strerror}") from error
    except ValueError as error:  # a null character
        raise OutputError(f"{str(output)!r}: is no name for a file: {error}") from error
    return place
