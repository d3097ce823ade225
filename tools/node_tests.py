"""The node tests of ONNX through hwgen: what passes exactly, what within its quantization error, what is refused, and why.

python tools/node_tests.py            writes docs/node-tests.md
python tools/node_tests.py NAME ...   says what becomes of these cases
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from hwgen.config import PRESETS
from hwgen.emit.onnx import to_qdq
from hwgen.errors import HwgenError, ModelError
from hwgen.frontend.onnx import import_model
from hwgen.frontend.qdq import import_quantized_model
from hwgen.ir.evaluate import evaluate, from_canonical, to_canonical
from hwgen.ir.graph import Graph
from hwgen.ops.conv import Conv
from hwgen.ops.golden import golden
from hwgen.optimize import optimize
from hwgen.quantize import quantize
from hwgen.schedule.compile import compile_network

Array = npt.NDArray[Any]
TABLE = Path(__file__).parents[1] / "docs" / "node-tests.md"

# The operators that hwgen has, or that networks of its kind need.
OPERATORS = (
    *("Add", "ArgMax", "ArgMin", "AveragePool", "BatchNormalization", "Clip", "Concat", "Conv", "ConvTranspose", "DepthToSpace", "Div", "Elu"),
    *("Erf", "Exp", "Expand", "Flatten", "Gather", "Gelu", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish", "Identity"),
    *("LeakyRelu", "LogSoftmax", "MatMul", "Max", "MaxPool", "Mean", "Min", "Mish", "Mul", "Neg", "PRelu", "Pad", "ReduceMean", "ReduceSum", "Relu"),
    *("Reshape", "Resize", "Sigmoid", "Slice", "Softmax", "Softplus", "SpaceToDepth", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "Tile"),
    *("Transpose", "Unsqueeze", "GroupNormalization", "InstanceNormalization", "LRN", "LayerNormalization"),
    *("RMSNormalization", "LpNormalization", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare", "Abs", "Ceil", "Celu", "Cos"),
    *("Floor", "Log", "Pow", "Reciprocal", "Round", "Selu", "Sign", "Sin", "Softsign", "Swish", "ThresholdedRelu"),
)
ALL_COMPUTED = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean", "Concat", "MatMul")  # of others, all inputs but the first are constants
FIRST_OUTPUT = ("LayerNormalization",)  # the others are for training
WITH_STEPS = ("Ceil", "Floor", "Round", "Sign", "ThresholdedRelu")
FLOAT_TOLERANCE = 2e-5  # of the float graph, relative to the greatest expected magnitude
ROUNDING = 0.51  # of one rounding, in units of the result's last place


HARDWARE = PRESETS["16x16"]
PAGE = """# ONNX's node tests

Written by `python tools/node_tests.py` from the cases of onnx {version} with one node, of the {operators} operators that hwgen has or that
networks of its kind need: **{passed} of {total} pass**, {refused} are refused with a reason, {wrong} are wrong.

- Each case is imported, quantized to 8 bits with ranges from its own inputs, computed in integers by the golden model, written as a
  quantized model and read back (the integers must be the same), and compiled for an accelerator. Inputs that are parameters (weights,
  shapes, indices) become constants.
- The float meaning of what was imported must equal the expected result, within the relative tolerance of ONNX's own runner.
- *Exact* ({exact}): every value is the expected one rounded to the nearest 8-bit code. *Within the error* ({close}): off by no more than what the
  same operator in float makes of the quantized inputs and weights, and one unit of the last place for each operator that rounds; at most
  {worst} units here, but where the input of a function with steps ({steps}) is rounded across one.
- Of LayerNormalization the first output is compared; mean and deviation are for training.
- The first dimension is the batch to hwgen. Cases that move or reduce it ({batch} of those that pass) are run with a dimension of one put in front,
  and their axes counted on by one.

## By operator

{rows}

## Refused

{reasons}

## Wrong
{wrong_cases}
"""


class Verdict(Enum):
    """What becomes of a case."""

    EXACT = "exact"
    CLOSE = "within the quantization error"
    REFUSED = "refused"
    WRONG = "wrong"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """`error` in units of the last place of the result; `batch`: a batch dimension was put in front."""

    name: str
    operator: str
    verdict: Verdict
    reason: str = ""
    error: float = 0.0
    batch: bool = False


def cases() -> Iterator[Any]:
    """All single-node cases of OPERATORS; those of operators in ONNX's own domains only."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases  # noqa: PLC0415  (computes thousands of expected results)

        found = collect_testcases(None)
    for case in found:
        nodes = case.model.graph.node
        if len(nodes) == 1 and nodes[0].op_type in OPERATORS and nodes[0].domain == "":
            yield case


def _promoted(model: onnx.ModelProto, arrays: Sequence[Any]) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """All inputs but the activations as initializers, and outputs that only training reads left out."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    node, feeds = result.graph.node[0], {}
    if node.op_type in FIRST_OUTPUT:
        del result.graph.output[1:], node.output[1:]
    kept = []
    for entry, array in zip(model.graph.input, arrays, strict=True):
        place = list(node.input).index(entry.name)
        if place == 0 or node.op_type in ALL_COMPUTED:
            kept.append(entry)
            feeds[entry.name] = np.asarray(array)
        else:
            result.graph.initializer.append(numpy_helper.from_array(np.asarray(array), entry.name))
    del result.graph.input[:]
    result.graph.input.extend(kept)
    return result, feeds


def _with_batch(model: onnx.ModelProto, feeds: dict[str, Array]) -> tuple[onnx.ModelProto, dict[str, Array]] | None:
    """The same case for each element of a batch of one; None where the operator itself speaks of the first dimension."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    node = result.graph.node[0]
    operator = node.op_type
    if operator in ("Conv", "ConvTranspose", "AveragePool", "MaxPool", "GlobalAveragePool", "GlobalMaxPool", "BatchNormalization", "Flatten", "Gemm", "Resize"):
        return None
    ranks = {name: array.ndim for name, array in feeds.items()}
    rank = max(ranks.values())
    for entry in (*result.graph.input, *result.graph.output):
        dims = [d.dim_value for d in entry.type.tensor_type.shape.dim]
        wide = [1, *[1] * (rank - len(dims) if entry.name in feeds and operator in ALL_COMPUTED and operator != "Concat" else 0), *dims]
        entry.CopyFrom(helper.make_tensor_value_info(entry.name, entry.type.tensor_type.elem_type, wide))
    _shift_attributes(node, rank)
    for initializer in result.graph.initializer:
        place = list(node.input).index(initializer.name)
        array = numpy_helper.to_array(initializer)
        moved = _shifted_constant(operator, place, array, rank, len(node.input))
        initializer.CopyFrom(numpy_helper.from_array(moved, initializer.name))
    lift = operator in ALL_COMPUTED and operator != "Concat"
    return result, {name: array.reshape(1, *[1] * (rank - array.ndim if lift else 0), *array.shape) for name, array in feeds.items()}


def _shift_attributes(node: onnx.NodeProto, rank: int) -> None:
    defaults = {"ArgMax": 0, "ArgMin": 0, "Gather": 0, "Split": 0}
    names = {attribute.name for attribute in node.attribute}
    if node.op_type in defaults and "axis" not in names:
        node.attribute.append(helper.make_attribute("axis", defaults[node.op_type]))
    for attribute in node.attribute:
        if attribute.name == "axis" and attribute.i >= 0:
            attribute.i += 1
        elif attribute.name == "axes":
            moved = [axis + 1 if axis >= 0 else axis for axis in attribute.ints]
            del attribute.ints[:]
            attribute.ints.extend(moved)
        elif attribute.name == "perm":
            moved = [0, *(axis + 1 for axis in attribute.ints)]
            del attribute.ints[:]
            attribute.ints.extend(moved)
    if node.op_type == "Transpose" and "perm" not in names:
        node.attribute.append(helper.make_attribute("perm", [0, *range(rank, 0, -1)]))


def _shifted_constant(operator: str, place: int, array: Array, rank: int, count: int) -> Array:
    """A constant input for tensors that have a batch in front."""
    holds_axes = operator in ("Squeeze", "Unsqueeze") or (operator.startswith("Reduce") and place == 1)
    if holds_axes or (operator in ("Slice", "Pad") and place == 3):
        return np.where(array >= 0, array + 1, array)
    if operator in ("Reshape", "Expand") and place == 1:
        if operator == "Reshape":
            return np.concatenate([[1], array]).astype(array.dtype)
        return np.concatenate([[1] * (1 + max(0, rank - len(array))), array]).astype(array.dtype)
    if operator == "Tile" and place == 1:
        return np.concatenate([[1], array]).astype(array.dtype)
    if operator == "Pad" and place == 1 and count < 4:
        half = len(array) // 2
        return np.concatenate([[0], array[:half], [0], array[half:]]).astype(array.dtype)
    return array


def _judged(case: Any, model: onnx.ModelProto, feeds: dict[str, Array], expected: Sequence[Array]) -> tuple[Verdict, float, str]:
    """Verdict, error and reason. Raises HwgenError where hwgen refuses the model."""
    graph = optimize(import_model(model, "case"))
    if not all(array.size for array in expected):
        raise ModelError("results must hold at least one element; hwgen has no empty tensors")
    reals, quantized = evaluate(graph, feeds), quantize(graph, feeds)
    for output, right in zip(graph.outputs, expected, strict=True):
        meaning = reals[output.name].reshape(right.shape)
        limit = FLOAT_TOLERANCE * max(float(np.abs(right).max()), 1.0)
        if not np.allclose(meaning, right, rtol=case.rtol, atol=limit):  # relative: as ONNX's own runner of these cases
            return Verdict.WRONG, 0.0, f"float meaning off by {np.abs(meaning - right).max():.3g}"
    found = _results(quantized, golden(quantized, feeds))
    again = import_quantized_model(to_qdq(quantized), "case")
    if any((mine != read).any() for mine, read in zip(found, _results(again, golden(again, feeds)), strict=True)):
        return Verdict.WRONG, 0.0, "the quantized model means something else when it is read back"
    compile_network(again, HARDWARE)
    error = _distance(quantized, found, expected)
    if error <= ROUNDING:
        return Verdict.EXACT, error, ""
    allowed = _allowed(quantized, graph, feeds, expected)
    return (Verdict.CLOSE, error, "") if error <= allowed else (Verdict.WRONG, error, f"{error:.2f} units of the last place, allowed {allowed:.2f}")


def _results(graph: Graph, codes: dict[str, Array]) -> list[Array]:
    return [from_canonical(output, graph.values[output.value].quantized.dequantize(codes[output.value])) for output in graph.outputs]


def _distance(graph: Graph, found: Sequence[Array], expected: Sequence[Array]) -> float:
    """The greatest difference in units of the last place of the output's 8-bit code."""
    units = [float(graph.values[output.value].quantized.scale) for output in graph.outputs]
    pairs = zip(found, expected, units, strict=True)
    return max(float(np.abs(mine.reshape(right.shape) - np.asarray(right, np.float64)).max()) / unit for mine, right, unit in pairs)


def _allowed(quantized: Graph, graph: Graph, feeds: dict[str, Array], expected: Sequence[Array]) -> float:
    """In units of the last place: how far the float meaning of the quantized inputs and weights lies from what is expected, and one unit
    for each operator."""
    nodes = []
    for node, rounded in zip(graph.nodes, quantized.nodes, strict=True):
        if isinstance(rounded.op, Conv):
            unit = np.asarray(rounded.op.weight_scale, np.float32)
            scale = np.float32(quantized.values[rounded.inputs[0]].quantized.scale)
            weight = rounded.op.weight.astype(np.float32) * unit.reshape(-1, 1, 1, 1)
            node = replace(node, op=replace(rounded.op, weight=weight, bias=rounded.op.bias.astype(np.float32) * (unit * scale), weight_scale=None))
        nodes.append(node)
    inputs = []
    arrays: dict[str, Array] = {}
    for entry in graph.inputs:
        q = quantized.values[entry.value].quantized
        arrays[entry.name] = q.dequantize(q.quantize(to_canonical(entry, feeds[entry.name])))
        inputs.append(replace(entry, steps=(), shape=(-1, *graph.values[entry.value].type.shape)))
    meaning = evaluate(replace(graph, nodes=tuple(nodes), inputs=tuple(inputs)), arrays)
    return _distance(quantized, [meaning[output.name] for output in graph.outputs], expected) + len(nodes)


def outcome(case: Any) -> Outcome:
    """As the file stands, or else with a batch dimension in front."""
    arrays, expected = case.data_sets[0]
    first = case.model.graph.node[0].op_type in FIRST_OUTPUT
    expected = [np.asarray(array) for array in (expected[:1] if first else expected)]
    model, feeds = _promoted(case.model, arrays)
    operator, reasons = case.model.graph.node[0].op_type, []
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for batch in (False, True):
            try:
                made = _with_batch(model, feeds) if batch else (model, feeds)
                if made is not None:
                    verdict, error, reason = _judged(case, *made, [array[None] if batch else array for array in expected])
                    return Outcome(name=case.name, operator=operator, verdict=verdict, error=error, reason=reason, batch=batch)
            except HwgenError as refusal:
                reasons.append(str(refusal))
            except Exception as crash:  # whatever it raises: a wrong answer
                return Outcome(name=case.name, operator=operator, verdict=Verdict.WRONG, reason=f"crash: {type(crash).__name__}: {crash}", batch=batch)
    return Outcome(name=case.name, operator=operator, verdict=Verdict.REFUSED, reason=reasons[-1])


def _short(reason: str) -> str:
    """One line without the node's name."""
    line = next((text for text in reason.splitlines() if not text.endswith("supported:")), "").strip()
    return re.sub(r"^(\w+) '[^']*'", r"\1", line).replace("|", "\\|")


def page(found: Sequence[Outcome]) -> str:
    """docs/node-tests.md."""
    count = {verdict: sum(entry.verdict is verdict for entry in found) for verdict in Verdict}
    passed = count[Verdict.EXACT] + count[Verdict.CLOSE]
    rows = ["| operator | cases | exact | within the error | refused | wrong |", "|---|---:|---:|---:|---:|---:|"]
    for operator in sorted({entry.operator for entry in found}):
        own = [entry for entry in found if entry.operator == operator]
        numbers = [sum(entry.verdict is verdict for entry in own) for verdict in (Verdict.EXACT, Verdict.CLOSE, Verdict.REFUSED, Verdict.WRONG)]
        rows.append(f"| {operator} | {len(own)} | {' | '.join(map(str, numbers))} |")
    reasons = ["| case | reason |", "|---|---|"]
    reasons += [
        f"| {entry.name.removeprefix('test_')} | {_short(entry.reason)} |" for entry in sorted(found, key=lambda e: e.name) if entry.verdict is Verdict.REFUSED
    ]
    wrong = [f"- {entry.name}: {entry.reason}" for entry in found if entry.verdict is Verdict.WRONG]
    worst = max((entry.error for entry in found if entry.verdict is Verdict.CLOSE and entry.operator not in WITH_STEPS), default=0.0)
    return PAGE.format(
        passed=passed,
        total=len(found),
        operators=len({entry.operator for entry in found}),
        exact=count[Verdict.EXACT],
        close=count[Verdict.CLOSE],
        refused=count[Verdict.REFUSED],
        wrong=count[Verdict.WRONG],
        batch=sum(entry.batch for entry in found if entry.verdict in (Verdict.EXACT, Verdict.CLOSE)),
        worst=f"{worst:.1f}",
        steps=", ".join(WITH_STEPS),
        version=onnx.__version__,
        rows="\n".join(rows),
        reasons="\n".join(reasons),
        wrong_cases="".join(f"\n{line}" for line in wrong) if wrong else "\nNone.",
    )


def main() -> None:
    names = sys.argv[1:]
    found = [outcome(case) for case in cases() if not names or any(name in case.name for name in names)]
    for entry in found:
        if names or entry.verdict is Verdict.WRONG:
            print(f"{entry.name:60s} {entry.verdict.value:8s} {entry.error:6.2f} {'batch ' if entry.batch else ''}{entry.reason}")
    if not names:
        TABLE.write_text(page(found), encoding="utf-8")
    print(", ".join(f"{sum(entry.verdict is verdict for entry in found)} {verdict.value}" for verdict in Verdict))


if __name__ == "__main__":
    main()
