"""Users' arrays: everything that does not fit is a DataError that says what would."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from hwgen.arrays import labels_of, network_arrays, read_network_arrays, read_npz
from hwgen.errors import DataError
from hwgen.ir.graph import GraphInput

IMAGE = GraphInput(name="image", shape=(-1, 2, 3), dtype="float32", value="image")
CODES = GraphInput(name="codes", shape=(-1, 4), dtype="int8", value="codes")


def save(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def test_a_single_array_may_have_any_name_and_labels_may_lie_beside_it(tmp_path: Path) -> None:
    path = save(tmp_path / "x.npz", whatever=np.ones((5, 2, 3), np.uint8), y=np.arange(5))
    arrays, labels = read_network_arrays(path, [IMAGE])
    assert arrays["image"].dtype == np.float32
    assert labels is not None
    assert labels.tolist() == [0, 1, 2, 3, 4]


def test_other_arrays_are_ignored_when_the_inputs_are_named(tmp_path: Path) -> None:
    path = save(tmp_path / "x.npz", image=np.ones((5, 2, 3)), codes=np.zeros((5, 4)), extra=np.zeros(3))
    arrays, labels = read_network_arrays(path, [IMAGE, CODES])
    assert set(arrays) == {"image", "codes"}
    assert labels is None


def test_an_input_named_y_is_an_input_and_no_label(tmp_path: Path) -> None:
    entry = GraphInput(name="y", shape=(-1, 2), dtype="float32", value="y")
    arrays, labels = read_network_arrays(save(tmp_path / "x.npz", y=np.ones((5, 2))), [entry])
    assert arrays["y"].shape == (5, 2)
    assert labels is None


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({}, "data 'f': must hold an array for every network input, missing 'image'; found none"),
        ({"a": np.ones((1, 2, 3)), "b": np.ones(2)}, "data 'f': must hold an array for every network input, missing 'image'; found 'a', 'b'"),
        ({"a": np.ones((5, 3, 2))}, "data 'f', array 'image': must have the shape Nx2x3 of input 'image', batch first, not 5x3x2"),
        ({"a": np.ones((2, 3))}, "data 'f', array 'image': must have the shape Nx2x3 of input 'image', batch first, not 2x3"),
        ({"a": np.float32(1)}, "data 'f', array 'image': must have the shape Nx2x3 of input 'image', batch first, not a scalar"),
        ({"a": np.ones((0, 2, 3))}, "data 'f', array 'image': must hold at least one input"),
        ({"a": np.full((1, 2, 3), np.nan)}, "data 'f', array 'image': must be finite, found NaN or infinity"),
        ({"a": np.full((1, 2, 3), 1e300)}, "data 'f', array 'image': must fit float32, found magnitudes up to 1e+300"),
        ({"a": np.full((1, 2, 3), "x")}, "data 'f', array 'image': must hold numbers, not <U1"),
        ({"a": np.ones((1, 2, 3), np.complex64)}, "data 'f', array 'image': must hold numbers, not complex64"),
    ],
)
def test_arrays_that_do_not_fit(arrays: dict[str, np.ndarray], text: str) -> None:
    with pytest.raises(DataError) as error:
        network_arrays({name: np.asarray(array) for name, array in arrays.items()}, [IMAGE], "f")
    assert str(error.value) == text


def test_missing_calibration_input_is_named() -> None:
    with pytest.raises(DataError, match=r"missing 'codes'; found 'image'$"):
        network_arrays({"image": np.ones((1, 2, 3))}, [IMAGE, CODES])


def test_integer_inputs_must_hold_their_values_exactly() -> None:
    assert network_arrays({"codes": np.array([[1.0, -2.0, 3.0, 127.0]])}, [CODES])["codes"].dtype == np.int8
    for bad in (0.5, 128.0, 1e30):
        with pytest.raises(DataError, match=r"must hold values that fit int8 exactly, as input 'codes' takes them$"):
            network_arrays({"codes": np.full((1, 4), bad)}, [CODES])


def test_batch_sizes_must_agree() -> None:
    with pytest.raises(DataError, match=r"^data 'arrays': all inputs must have the same batch size, found 'image' 2, 'codes' 3$"):
        network_arrays({"image": np.ones((2, 2, 3)), "codes": np.ones((3, 4))}, [IMAGE, CODES])


@pytest.mark.parametrize("labels", [np.ones(4, int), np.ones(5), np.full(5, "a")])
def test_labels_must_be_one_integer_per_input(labels: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"^data 'f', array 'y': must hold one integer label for each of 5 inputs, not "):
        labels_of({"y": labels}, 5, "f")


def test_files_that_are_no_npz(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "empty.npz").write_bytes(b"")
    np.savez(tmp_path / "cut.npz", a=np.arange(1000))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:500])
    np.savez(tmp_path / "objects.npz", a=np.array([{}], object))
    for name in ("text", "empty", "cut", "objects"):
        with pytest.raises(DataError, match=rf"^data '{name}.npz': cannot be read \(not an .npz file of plain arrays\); save arrays with numpy.savez$"):
            read_npz(tmp_path / f"{name}.npz")
    with pytest.raises(DataError, match=r"^data 'absent.npz': cannot be read \(No such file or directory\)"):
        read_npz(tmp_path / "absent.npz")
    np.save(tmp_path / "plain.npy", np.arange(3))
    with pytest.raises(DataError, match=r"^data 'plain.npy': must be an .npz file of arrays by input name, not a single .npy array; save with numpy.savez$"):
        read_npz(tmp_path / "plain.npy")


def test_a_damaged_archive_is_a_data_error_whatever_is_damaged(tmp_path: Path) -> None:
    """One byte changed anywhere: zipfile, zlib and NumPy each have their own exceptions for it."""
    np.savez_compressed(tmp_path / "good.npz", x=np.random.default_rng(1).normal(size=(4, 8, 8)).astype(np.float32), y=np.arange(4))
    content = (tmp_path / "good.npz").read_bytes()
    rng = np.random.default_rng(2)
    refused = 0
    for position in range(0, len(content), 2):
        damaged = bytearray(content)
        damaged[position] ^= int(rng.integers(1, 256))
        (tmp_path / "bad.npz").write_bytes(damaged)
        try:
            read_npz(tmp_path / "bad.npz")
        except DataError as error:
            assert str(error).startswith("data 'bad.npz': ")
            refused += 1
    assert refused > len(content) // 4


def test_an_encrypted_or_unknown_compression_is_a_data_error(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones(3))
    content = bytearray((tmp_path / "x.npz").read_bytes())
    directory = content.index(b"PK\x01\x02")
    for offset, value in ((8, 1), (10, 99)):  # general purpose flags: encrypted; compression method
        changed = bytearray(content)
        changed[directory + offset] = value
        (tmp_path / "y.npz").write_bytes(changed)
        with pytest.raises(DataError, match=r"^data 'y.npz': cannot be read \(not an .npz file of plain arrays\); save arrays with numpy.savez$"):
            read_npz(tmp_path / "y.npz")


def test_an_archive_that_would_unpack_to_more_than_a_computer_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, x=np.zeros(1000, np.uint8), y=np.zeros(1000, np.uint8))
    monkeypatch.setattr("hwgen.arrays.MAX_BYTES", 2000)
    with pytest.raises(DataError, match=r"^data 'bomb.npz': arrays must take at most 2000 bytes together, not 2256; give fewer inputs at once$"):
        read_npz(path)


def test_an_array_that_declares_more_than_fits_the_memory(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 50,)})
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue())
    with pytest.raises(DataError, match=r"^data 'huge.npz': cannot be read \(its arrays do not fit the memory\); save arrays with numpy.savez$"):
        read_npz(tmp_path / "huge.npz")
