"""The C reading of the arithmetic against the NumPy reading, compiled by gcc."""

import ctypes
from pathlib import Path

import numpy as np
import pytest
from firmware_support import compile_c

from hwgen.arith import AddRequantize, IntType, Requantize, Rounding
from hwgen.emit.c_expression import CExpression, c_function
from hwgen.errors import QuantizationError

CASES = [(bits, rounding) for bits in (0, 8, 16, 24) for rounding in Rounding]


def compiled(text: str, name: str, arguments: int, folder: Path) -> ctypes._CFuncPtr:
    (folder / "f.c").write_text(
        "#include <stdint.h>\n" + text.replace("static int64_t", f"int64_t {name}(" + ", ".join(["int64_t"] * arguments) + ");\nint64_t", 1)
    )
    library = compile_c(folder, "f.so", "f.c", flags="-O2 -shared -fPIC -fsanitize=undefined -fsanitize-undefined-trap-on-error")
    function = getattr(ctypes.CDLL(str(library)), name)
    function.argtypes, function.restype = [ctypes.c_int64] * arguments, ctypes.c_int64
    return function


def agree(operation: Requantize | AddRequantize, draw: dict[str, np.ndarray], folder: Path) -> None:
    function = compiled(c_function("f", operation), "f", len(operation.inputs), folder)
    checked = 0
    for row in zip(*(draw[name].tolist() for name in operation.inputs), strict=True):
        try:
            expected = int(operation.compute(**{name: np.int64(value) for name, value in zip(operation.inputs, row, strict=True)}))
        except QuantizationError:  # outside what the declared types allow
            continue
        assert function(*row) == expected, row
        checked += 1
    assert checked > 200


@pytest.mark.parametrize(("bits", "rounding"), CASES)
def test_requantize(bits: int, rounding: Rounding, tmp_path: Path) -> None:
    rng = np.random.default_rng(bits)
    n = 600
    acc = np.concatenate([rng.integers(-(1 << 31), 1 << 31, n // 2), rng.integers(-300, 300, n // 2)])
    acc[:4] = [-(1 << 31), (1 << 31) - 1, 0, -1]
    multiplier = np.where(rng.random(n) < 0.5, rng.integers(0, 1 << max(bits, 1), n), (1 << max(bits, 1)) >> 1)
    ends = {name: rng.integers(-128, 128, n) for name in ("zero_point", "low", "high")}
    draw = {"acc": acc, "multiplier": multiplier, "shift": rng.integers(0, 32 + bits, n), **ends}
    agree(Requantize(multiplier_bits=bits, rounding=rounding), draw, tmp_path)


@pytest.mark.parametrize(("bits", "rounding"), CASES)
def test_add_requantize(bits: int, rounding: Rounding, tmp_path: Path) -> None:
    rng = np.random.default_rng(bits + 1)
    n = 600
    multipliers = {name: rng.integers(0, 1 << bits if bits else 32, n) for name in ("multiplier_a", "multiplier_b")}
    small = {name: rng.integers(-128, 128, n) for name in ("a", "b", "low", "high")}
    offset = np.where(rng.random(n) < 0.5, rng.integers(-(1 << 47), 1 << 47, n), rng.integers(-9, 9, n))
    agree(AddRequantize(multiplier_bits=bits, rounding=rounding), {**small, **multipliers, "offset": offset, "shift": rng.integers(0, 47, n)}, tmp_path)


def test_left_shift_of_a_negative_number_is_a_product() -> None:
    assert (CExpression("a") << CExpression("s")).text == "(a * (INT64_C(1) << s))"
    with pytest.raises(AssertionError, match="a negative constant shifted left is undefined in C"):
        -1 << CExpression("s")


def test_operators_keep_the_order_of_operands() -> None:
    a, b = CExpression("a"), CExpression("b")
    texts = [x.text for x in (a - b, 1 - a, 1 + a, 2 * a, 3 & a, a >= b, a <= b, a != b)]
    assert texts == ["(a - b)", "(INT64_C(1) - a)", "(INT64_C(1) + a)", "(INT64_C(2) * a)", "(INT64_C(3) & a)", "(a >= b)", "(a <= b)", "(a != b)"]


def test_accumulators_of_other_widths(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    n = 400
    draw = {"acc": rng.integers(-(1 << 23), 1 << 23, n), "multiplier": rng.integers(1 << 15, 1 << 16, n), "shift": rng.integers(10, 35, n)}
    draw |= {"zero_point": rng.integers(-128, 128, n), "low": np.full(n, -128), "high": np.full(n, 127)}
    agree(Requantize(accumulator=IntType(24)), draw, tmp_path)
