"""Users' arrays: .npz files checked against the network's inputs before anything long begins."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from hwgen.errors import DataError
from hwgen.ir.graph import GraphInput

LABELS = "y"
MAX_BYTES = 1 << 34  # of the arrays of one file together: a small compressed file must not ask for more memory than computers have
_UNREADABLE = (OSError, ValueError, EOFError, KeyError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)  # of NumPy, zipfile and zlib
AnyArray = npt.NDArray[Any]


def read_npz(path: Path) -> dict[str, AnyArray]:
    """All arrays of an .npz file. Raises DataError when it is none, is damaged, holds Python objects or more than MAX_BYTES."""
    try:
        with path.open("rb") as file:
            _check_size(file, path.name)
            content = np.load(file, allow_pickle=False)
            if isinstance(content, np.ndarray):
                raise DataError(f"data {path.name!r}: must be an .npz file of arrays by input name, not a single .npy array; save with numpy.savez")
            return {name: content[name] for name in content.files}
    except _UNREADABLE as error:
        reason = "not an .npz file of plain arrays"
        if isinstance(error, OSError) and error.strerror:
            reason = error.strerror
        elif isinstance(error, MemoryError):
            reason = "its arrays do not fit the memory"
        raise DataError(f"data {path.name!r}: cannot be read ({reason}); save arrays with numpy.savez") from error


def _check_size(file: BinaryIO, name: str) -> None:
    """Before anything is unpacked: the sizes that the archive's directory declares, which zipfile never exceeds."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            total = sum(entry.file_size for entry in archive.infolist())
        if total > MAX_BYTES:
            raise DataError(f"data {name!r}: arrays must take at most {MAX_BYTES} bytes together, not {total}; give fewer inputs at once")
    file.seek(0)


def _checked(name: str, array: AnyArray, entry: GraphInput, file: str) -> AnyArray:
    where = f"data {file!r}, array {name!r}"
    if array.dtype.kind not in "iufb":
        raise DataError(f"{where}: must hold numbers, not {array.dtype}")
    expected = entry.shape[1:]
    if array.ndim != len(entry.shape) or array.shape[1:] != expected:
        shape = "x".join(["N", *map(str, expected)])
        raise DataError(f"{where}: must have the shape {shape} of input {entry.name!r}, batch first, not {'x'.join(map(str, array.shape)) or 'a scalar'}")
    if not len(array):
        raise DataError(f"{where}: must hold at least one input")
    target = np.dtype(entry.dtype)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError(f"{where}: must be finite, found NaN or infinity")
    with np.errstate(over="ignore", invalid="ignore"):  # checked below
        converted = array.astype(target)
    if target.kind in "iu" and not np.array_equal(converted.astype(np.float64), array.astype(np.float64)):
        raise DataError(f"{where}: must hold values that fit {target} exactly, as input {entry.name!r} takes them")
    if target.kind == "f" and not np.isfinite(converted).all():
        raise DataError(f"{where}: must fit {target}, found magnitudes up to {np.abs(array).max():g}")
    return converted


def network_arrays(arrays: Mapping[str, AnyArray], inputs: Sequence[GraphInput], file: str = "arrays") -> dict[str, AnyArray]:
    """One array per network input, by input name, in the input's element type; a single array beside the labels may have any name.

    Integers are taken where the network wants float. Raises DataError naming what is missing or does not fit.
    """
    names = [entry.name for entry in inputs]
    given = {name: array for name, array in arrays.items() if name in names or name != LABELS}
    if len(names) == 1 and len(given) == 1:
        given = {names[0]: next(iter(given.values()))}
    missing = [name for name in names if name not in given]
    if missing:
        found = ", ".join(map(repr, arrays)) or "none"
        raise DataError(f"data {file!r}: must hold an array for every network input, missing {', '.join(map(repr, missing))}; found {found}")
    result = {entry.name: _checked(entry.name, given[entry.name], entry, file) for entry in inputs}
    counts = {name: len(array) for name, array in result.items()}
    if len(set(counts.values())) > 1:
        raise DataError(f"data {file!r}: all inputs must have the same batch size, found {', '.join(f'{n!r} {c}' for n, c in counts.items())}")
    return result


def labels_of(arrays: Mapping[str, AnyArray], count: int, file: str = "arrays") -> npt.NDArray[np.int64] | None:
    """The labels `y`, one integer per input; None when there are none. Raises DataError where they do not fit."""
    found = arrays.get(LABELS)
    if found is None:
        return None
    flat = found.reshape(-1)
    if found.dtype.kind not in "iu" or len(flat) != count:
        raise DataError(f"data {file!r}, array {LABELS!r}: must hold one integer label for each of {count} inputs, not {found.dtype} of shape {found.shape}")
    return flat.astype(np.int64)


def read_network_arrays(path: Path, inputs: Sequence[GraphInput]) -> tuple[dict[str, AnyArray], npt.NDArray[np.int64] | None]:
    """Inputs of a file, and its labels if it holds some that are no input."""
    arrays = read_npz(path)
    result = network_arrays(arrays, inputs, path.name)
    taken = any(entry.name == LABELS for entry in inputs)
    return result, None if taken else labels_of(arrays, len(next(iter(result.values()))), path.name)
