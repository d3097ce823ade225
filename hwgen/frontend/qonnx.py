"""QONNX: Quant, BipolarQuant and Trunc between float operators, with weights and activations of few bits.

Source of the operators' meaning: https://github.com/fastmachinelearning/qonnx, docs/qonnx-custom-ops. Quant adds the zero point, clamps, and
then rounds; BipolarQuant maps 0 to +1, and so does a signed Quant of one bit; Trunc divides by a power of two and rounds down.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from hwgen.frontend.onnx_file import BIPOLAR, QUANT, TRUNC
from hwgen.frontend.qdq_operators import HANDLERS, keep
from hwgen.frontend.qdq_strip import LAYOUT, Array, Handler, Parameter, RefusedError, Stripper
from hwgen.ir.types import Quantization
from hwgen.ops.check import check_scale

MOST_BITS, MOST_CONSTANT_BITS = 8, 32  # of activations and weights; of biases
_CODES = {"ROUND": np.rint, "HALF_EVEN": np.rint, "FLOOR": np.floor, "CEIL": np.ceil}


@dataclass(frozen=True, kw_only=True)
class _Range:
    """What a quantizer's integers are before the zero point is taken off; `bipolar`: -1 and +1 only."""

    low: int
    high: int
    bipolar: bool = False


def quant(s: Stripper, node: onnx.NodeProto) -> None:
    bits = _bits(s, node, 3)
    signed, narrow = _flag(node, "signed", 1), _flag(node, "narrow", 0)
    high = (1 << (bits - 1)) - 1 if signed else (1 << bits) - 1 - narrow
    low = -(1 << (bits - 1)) + narrow if signed else 0
    span = _Range(low=-1, high=1, bipolar=True) if signed and bits == 1 else _Range(low=low, high=high)
    _quantize(s, node, span, _zero_point(s, node, 2), _rounding(node, "ROUND"))


def bipolar(s: Stripper, node: onnx.NodeProto) -> None:
    _quantize(s, node, _Range(low=-1, high=1, bipolar=True), np.zeros(()), "ROUND")


def trunc(s: Stripper, node: onnx.NodeProto) -> None:
    """Of version 1 (input and output bits) and 2 (a scale and a sign of the output besides)."""
    second = len(node.input) > 5
    bits = _bits(s, node, 5 if second else 4)
    if _zero_point(s, node, 2).any():
        raise RefusedError("must have zero point 0")
    source, rounding = s.operand(node, 0), _rounding(node, "FLOOR")
    if second:
        signed, narrow = _flag(node, "signed", 1), _flag(node, "narrow", 0)
        span = _Range(low=-(1 << (bits - 1)) + narrow, high=(1 << (bits - 1)) - 1) if signed else _Range(low=0, high=(1 << bits) - 1 - narrow)
        _activation(s, node, source, _scale(s, node, 4), span, 0, rounding)
        return
    if bits >= MOST_BITS:
        raise RefusedError(f"of version 1 does not say whether its result is signed, and must have at most {MOST_BITS - 1} bits, not {bits}")
    factor = s.constant(f"{node.output[0]}.factor", np.array(2.0 ** (bits - _bits(s, node, 3))))
    divided = s.fresh(f"{node.output[0]}.divided")
    s.put("Mul", [source, factor], divided)
    _activation(s, node, divided, _scale(s, node, 1), _Range(low=-(1 << (bits - 1)), high=(1 << bits) - 1), 0, rounding)


def keep_real(s: Stripper, node: onnx.NodeProto) -> None:
    """A float operator. Quantized constants stay codes where they are the weights of products, and become real numbers elsewhere."""
    weights_at = {"Conv": (1,), "Gemm": (1,), "MatMul": (0, 1), **dict.fromkeys(LAYOUT, (0,))}.get(node.op_type, ())
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for index, name in enumerate(node.input):
        if name in s.result.parameters and index not in weights_at:
            copy.input[index] = s.constant(f"{name}.real", s.result.parameters[name].real)
    keep(s, copy)


QONNX_HANDLERS: dict[str, Handler] = {
    **HANDLERS,
    "": keep_real,
    **dict.fromkeys(QUANT, quant),
    **dict.fromkeys(BIPOLAR, bipolar),
    **dict.fromkeys(TRUNC, trunc),
}


# Operands and attributes


def _bits(s: Stripper, node: onnx.NodeProto, index: int) -> int:
    array = s.array(node, index)
    if array.size != 1 or not np.isfinite(array.astype(np.float64)).all() or array.reshape(-1)[0] != np.rint(array.reshape(-1)[0]):
        raise RefusedError(f"input {index}, a number of bits, must be one whole number, not {array.reshape(-1)[:3].tolist()}")
    bits = int(array.reshape(-1)[0])
    if not 1 <= bits <= MOST_CONSTANT_BITS:
        raise RefusedError(f"input {index}, a number of bits, must be 1..{MOST_CONSTANT_BITS}, not {bits}")
    return bits


def _zero_point(s: Stripper, node: onnx.NodeProto, index: int) -> Array:
    array = s.array(node, index).astype(np.float64)
    if not (np.isfinite(array).all() and (array == np.rint(array)).all() and np.abs(array).max(initial=0) < 2.0**31):
        raise RefusedError(f"input {index}, the zero point, must be a whole number, not {array.reshape(-1)[:3].tolist()}")
    return array


def _scale(s: Stripper, node: onnx.NodeProto, index: int) -> Array:
    array = s.array(node, index).astype(np.float32)
    for scale in np.unique(array).tolist():
        check_scale(scale, f"{node.op_type} {s.result.names[-1]!r}")
    return array


def _flag(node: onnx.NodeProto, name: str, default: int) -> int:
    return int(bool(next((a.i for a in node.attribute if a.name == name), default)))


def _rounding(node: onnx.NodeProto, default: str) -> str:
    mode = next((a.s.decode("utf-8", "replace") for a in node.attribute if a.name == "rounding_mode"), default).upper()
    if mode not in _CODES:
        raise RefusedError(f"attribute rounding_mode must be one of {', '.join(_CODES)}, not {mode[:40]!r}")
    return mode


# Constants and activations


def _quantize(s: Stripper, node: onnx.NodeProto, span: _Range, zero_point: Array, rounding: str) -> None:
    source, scale = s.operand(node, 0), _scale(s, node, 1)
    if source in s.constants:
        s.put_parameter(node.output[0], _constant(s.array(node, 0), scale, span, zero_point, rounding, source))
        return
    if zero_point.size != 1:
        raise RefusedError(f"activations must have one zero point, not {zero_point.size}")
    _activation(s, node, source, scale, span, int(zero_point.reshape(-1)[0]), rounding)


def _constant(real: Array, scale: Array, span: _Range, zero_point: Array, rounding: str, name: str) -> Parameter:
    """The codes of a constant, as QONNX's own executor computes them: in float32."""
    shape = (1,) * (real.ndim - scale.ndim) + scale.shape
    wide = [axis for axis, size in enumerate(shape) if size != 1]
    if real.dtype.kind != "f" or scale.ndim > real.ndim or len(wide) > 1 or any(shape[axis] != real.shape[axis] for axis in wide):
        raise RefusedError(f"the scales of {name!r}, shape {list(scale.shape)}, must be one, or one for each index of one of its dimensions {list(real.shape)}")
    try:
        integers = real.astype(np.float32) / scale + zero_point.astype(np.float32)
    except ValueError as error:
        raise RefusedError(f"the zero points of {name!r}, shape {list(zero_point.shape)}, must broadcast to it, shape {list(real.shape)}") from error
    if integers.shape != real.shape:
        raise RefusedError(f"the zero points of {name!r}, shape {list(zero_point.shape)}, must broadcast to it, shape {list(real.shape)}")
    rounded = np.where(integers >= 0, 1, -1) if span.bipolar else _CODES[rounding](np.clip(integers, span.low, span.high))
    return Parameter(codes=rounded.astype(np.int64) - zero_point.astype(np.int64), scale=scale.reshape(-1), axis=wide[0] if wide else 0)


def _activation(s: Stripper, node: onnx.NodeProto, source: str, scale: Array, span: _Range, zero_point: int, rounding: str) -> None:
    """The limits stay as a Clip, whose result has the quantization; it is fused into the layer before it like any other."""
    if span.high - span.low >= 1 << MOST_BITS:
        raise RefusedError(f"activations must have at most {MOST_BITS} bits, not {(span.high - span.low).bit_length()}")
    if scale.size != 1:
        raise RefusedError(f"activations must have one scale, not {scale.size}")
    offset = 128 if span.high > 127 else 0
    step = np.float32(scale.reshape(-1)[0])
    output = node.output[0]
    s.put_limits(source, output, step, span.low - zero_point, span.high - zero_point)
    s.result.activations[output] = Quantization(scale=step, zero_point=zero_point - offset, unsigned=bool(offset))
    if span.bipolar:
        s.result.bipolar.add(output)
    if rounding not in ("ROUND", "HALF_EVEN"):
        s.result.rounding[output] = rounding
