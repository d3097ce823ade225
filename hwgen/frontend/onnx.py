"""Float ONNX models to the canonical channels-last graph. See HANDLERS for the operators."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import onnx

from hwgen.errors import ModelError, Unsupported, UnsupportedError
from hwgen.frontend.onnx_arrange import ProcessorBuilder
from hwgen.frontend.onnx_builder import Builder, Declared, PoisonedError
from hwgen.frontend.onnx_constants import constant_node, fold, tensor
from hwgen.frontend.onnx_dense import DENSE_HANDLERS
from hwgen.frontend.onnx_file import check_model, is_quantized_model, load_model, network_name, opset_of
from hwgen.frontend.onnx_moves import MOVE_HANDLERS
from hwgen.frontend.onnx_node import OnnxNode, Refusal, needed
from hwgen.frontend.onnx_normalize import NORMALIZE_HANDLERS, written_out
from hwgen.frontend.onnx_pointwise import POINTWISE_HANDLERS
from hwgen.frontend.onnx_reduce import REDUCE_HANDLERS
from hwgen.frontend.onnx_resize import RESIZE_HANDLERS
from hwgen.frontend.onnx_shape import SHAPE_HANDLERS
from hwgen.frontend.onnx_slice import SLICE_HANDLERS
from hwgen.frontend.onnx_transposed import TRANSPOSED_HANDLERS
from hwgen.frontend.onnx_view import Constant, Image, RawInput, Result
from hwgen.frontend.onnx_window import WINDOW_HANDLERS
from hwgen.frontend.onnx_written_out import Normalization, find_normalizations
from hwgen.ir import host
from hwgen.ir.graph import Graph, GraphOutput
from hwgen.ir.types import Quantization
from hwgen.ops.base import MAX_ELEMENTS
from hwgen.optimize import optimize

__all__ = ["HANDLERS", "check_model", "import_model", "is_quantized_model", "load_float_graph", "load_model"]

HANDLERS: dict[str, Callable[[Builder, OnnxNode], None]] = {
    **WINDOW_HANDLERS,
    **REDUCE_HANDLERS,
    **DENSE_HANDLERS,
    **POINTWISE_HANDLERS,
    **SHAPE_HANDLERS,
    **MOVE_HANDLERS,
    **SLICE_HANDLERS,
    **RESIZE_HANDLERS,
    **TRANSPOSED_HANDLERS,
    **NORMALIZE_HANDLERS,
}

# Refused, but known to keep shapes: import goes on behind them, so that one run lists every offending node.
KEEPS_SHAPE = frozenset(
    {
        "Abs", "Celu", "Cos", "Elu", "Erf", "Exp", "Floor", "Gelu", "GroupNormalization", "HardSigmoid", "HardSwish", "Hardmax",
        "InstanceNormalization", "LRN", "LayerNormalization", "LeakyRelu", "Log", "LogSoftmax", "LpNormalization", "Mish", "Neg", "PRelu", "Pow",
        "RMSNormalization", "Reciprocal", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Swish", "Tanh",
        "ThresholdedRelu",
    }
)

SEVERAL_OUTPUTS = ("Split",)  # operators whose handlers define all of them

# Bounds on what constant folding computes: any shape arithmetic, and every weight some times over.
LEAST_FOLDABLE = 1 << 24
FOLDABLE_PER_STORED = 16


def load_float_graph(path: Path) -> Graph:
    """Read, check, import and optimize a float model. Raises ModelError, also for a quantized one, or UnsupportedError."""
    model = load_model(path)
    if is_quantized_model(model):
        raise ModelError(f"model {path.name!r}: must be float, came quantized; give the float model")
    return optimize(import_model(model, network_name(path)))


def import_model(model: onnx.ModelProto, name: str, rounded: Mapping[str, Quantization] | None = None) -> Graph:
    """The canonical graph of a checked model, one node per ONNX node, not yet optimized. `rounded`: see Builder.

    Raises UnsupportedError that lists every node which hwgen does not implement, and ModelError for contradictions.
    """
    declared = _declared(model)
    found: ModelError | None = None
    for kind in (Builder, ProcessorBuilder):  # the processor takes a part only where the accelerator cannot do all of it
        first = kind(declared=declared, rounded=rounded)
        try:
            return _import(model, name, first)
        except ModelError as error:
            found = error
        for builder in _second_thoughts(first):
            try:
                return _import(model, name, builder)
            except ModelError:
                continue
    assert found is not None
    raise found


def _second_thoughts(first: Builder) -> Iterator[Builder]:
    """What else may be tried where import had to guess: that an input which met an elementwise operator first is channels-last,
    and that an input which is read scaled and unscaled is better scaled on the accelerator."""
    for scale_outside in (True, False) if first.conflict else (True,):
        for channels_last in (False, True) if first.guessed or not scale_outside else (False,):
            if channels_last or not scale_outside:
                yield type(first)(declared=first.declared, rounded=first.rounded, channels_last=channels_last, scale_outside=scale_outside)


def _import(model: onnx.ModelProto, name: str, builder: Builder) -> Graph:
    stored = 0
    for initializer in model.graph.initializer:
        builder.env[initializer.name] = constant = Constant.of(tensor(initializer, f"initializer {initializer.name!r}"))
        stored += constant.elements
    builder.foldable_elements = LEAST_FOLDABLE + FOLDABLE_PER_STORED * stored
    for declared in builder.declared.values():
        builder.env[declared.name] = RawInput(source=declared.name, shape=declared.shape, integer=not declared.dtype.startswith(("float", "bfloat")))
    problems: list[Unsupported] = []
    outputs = [output.name for output in model.graph.output]
    opset = opset_of(model, name)
    nodes = needed([OnnxNode.read(proto, opset) for proto in model.graph.node], outputs)
    known = {key: constant.probes[0] for key, constant in builder.env.items() if isinstance(constant, Constant)}
    for node in find_normalizations(nodes, known, outputs, builder.rounded or {}):
        builder.origin.update(dict.fromkeys(node.outputs, node))
        try:
            _translate(builder, node)
            _refuse_extra_outputs(model, node)
        except Refusal as refusal:
            if refusal.problem not in problems:
                problems.append(refusal.problem)
            _recover(builder, node)
        except PoisonedError:
            pass
    if problems:
        raise UnsupportedError(problems)
    results = tuple(_output(builder, output) for output in outputs)
    if not builder.nodes:
        raise ModelError(f"model {name!r}: must hold at least one operator for the accelerator (Conv, Gemm, MatMul, pooling, ...), but holds none")
    return Graph(
        name=name,
        inputs=tuple(builder.inputs[key] for key in builder.declared if key in builder.inputs),
        outputs=results,
        nodes=tuple(builder.nodes),
        values=builder.values,
    )


def _translate(builder: Builder, node: OnnxNode) -> None:
    """One node: folded when all operands are constant, else given to its handler."""
    if node.operator == "Constant":
        builder.env[node.output] = constant = constant_node(node)
        builder.foldable_elements += FOLDABLE_PER_STORED * constant.elements
        return
    operands = [builder.env.get(name) for name in node.inputs]
    constants = [operand for operand in operands if isinstance(operand, Constant)]
    if constants and len(constants) == sum(name != "" for name in node.inputs):
        builder.define_constant(node, fold(node, [operand if isinstance(operand, Constant) else None for operand in operands]))
        return
    if isinstance(node, Normalization):
        written_out(builder, node)
        return
    handler = HANDLERS.get(node.operator)
    if handler is None:
        raise node.refuse("operator is not supported")
    handler(builder, node)


def _recover(builder: Builder, node: OnnxNode) -> None:
    """After a refusal: behind an operator that keeps shapes import goes on, behind any other nothing is known."""
    known = [builder.env.get(name) for name in node.inputs]
    views = [view for view in known if view is not None and not isinstance(view, Constant)]
    if node.operator in KEEPS_SHAPE and views:
        builder.env[node.output] = views[0]


def _refuse_extra_outputs(model: onnx.ModelProto, node: OnnxNode) -> None:
    extra = {name for name in node.outputs[1:] if name}
    if not extra or node.operator in SEVERAL_OUTPUTS:
        return
    read = {name for other in model.graph.node for name in other.input} | {output.name for output in model.graph.output}
    if extra & read:
        raise node.refuse(f"only the first output is supported, but {min(extra & read)!r} is read")


def _declared(model: onnx.ModelProto) -> dict[str, Declared]:
    """The graph inputs that are no initializers. Raises ModelError for inputs without fixed sizes."""
    initializers = {initializer.name for initializer in model.graph.initializer}
    result = {}
    for info in model.graph.input:
        if info.name in initializers:
            continue
        kind = info.type.tensor_type
        if not info.type.HasField("tensor_type") or not kind.HasField("shape"):
            raise ModelError(f"input {info.name!r}: must be a tensor of declared shape; declare it in the model")
        sizes = [dimension.dim_value if dimension.HasField("dim_value") else 0 for dimension in kind.shape.dim]
        if len(sizes) < 2:
            raise ModelError(f"input {info.name!r}: must have a batch dimension and at least one more, not {len(sizes)} in all; export the model with a batch")
        _require_fixed(info.name, kind.shape, sizes)
        result[info.name] = Declared(name=info.name, shape=tuple(sizes[1:]), dtype=_dtype(info.name, kind.elem_type))
    return result


def _require_fixed(name: str, shape: onnx.TensorShapeProto, sizes: Sequence[int]) -> None:
    for index, size in enumerate(sizes[1:], 1):
        if size < 1:
            label = shape.dim[index].dim_param or "unknown"
            way_out = "fix it at export, or with onnxruntime.tools.make_dynamic_shape_fixed"
            raise ModelError(f"input {name!r}: dimension {index} must have a fixed size, but is {label!r}; {way_out}")
    if (elements := math.prod(sizes[1:])) > MAX_ELEMENTS:
        raise ModelError(f"input {name!r}: must hold at most {MAX_ELEMENTS} elements, not {elements}")


def _dtype(name: str, element_type: int) -> str:
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(element_type)
    except KeyError as error:
        raise ModelError(f"input {name!r}: element type {element_type} is not known") from error
    if dtype.kind not in "fiu":
        raise ModelError(f"input {name!r}: elements must be numbers, not {dtype}")
    return str(dtype)


def _output(builder: Builder, name: str) -> GraphOutput:
    view = builder.env.get(name)
    if isinstance(view, RawInput) and builder.processor:
        view = builder.copied(name, view)
    if isinstance(view, Image):
        return GraphOutput(name=name, shape=(-1, *view.shape), value=view.value, steps=view.to_host())
    if isinstance(view, Result):
        start = builder.values[view.source].type.shape
        return GraphOutput(name=name, shape=(-1, *view.shape), value=view.source, steps=host.simplified(view.steps, start))
    raise ModelError(f"output {name!r}: must be computed by an operator of the accelerator from a graph input, but is not")
