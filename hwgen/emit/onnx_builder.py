"""Collects the nodes and constants of an ONNX graph, and writes what both quantized forms share: host steps, inputs and outputs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from hwgen.errors import Unsupported, UnsupportedError
from hwgen.frontend.qdq import NOTE_MULTIPLIER_BITS, NOTE_RENAMED, NOTE_ROUNDING
from hwgen.frontend.qdq_strip import MICROSOFT
from hwgen.ir.graph import Graph, GraphInput, GraphOutput, Node, fresh_name
from hwgen.ir.host import Affine, ArgExtremum, HostStep, LogSoftmax, Reshape, Softmax, Take, Transpose, simplified

OPSET, IR_VERSION = 13, 8
FEW_BITS_OPSET, FEW_BITS_IR_VERSION = 21, 10  # the first that know INT4; until there no operator that is written here changes its meaning
SINCE = {"LayerNormalization": 17}  # operators that come later than OPSET
TO_CHANNELS_FIRST, TO_CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


class OnnxBuilder:
    """Appends nodes in order; every name it makes up is unique among those of the graph. The opset is the oldest that knows its constants."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.problems: list[Unsupported] = []
        self.versions = OPSET, IR_VERSION
        # ONNX Runtime 1.32 turns int8 activations into uint8 ones and leaves the `output_dtype` that it wrote itself: in opset 21 it refuses them.
        self._int4 = all(value.quantization is None or value.quantization.unsigned for value in graph.values.values())
        self.renamed: dict[str, str] = {}  # tensor -> value of the graph, where the names differ
        self._outside = {entry.name for entry in graph.inputs} | {entry.name for entry in graph.outputs}
        self._used = set(graph.values) | self._outside

    def fresh(self, wish: str) -> str:
        """`wish`, or `wish` with a number where it is taken."""
        name = fresh_name(wish, self._used)
        self._used.add(name)
        return name

    def value_name(self, value: str) -> str:
        """The ONNX name of a value of the graph: its own, unless an input or output of the network has that name."""
        if value not in self._outside:
            return value
        name = self.fresh(value)
        self.note_name(name, value)
        return name

    def note_name(self, tensor: str, value: str) -> None:
        """A reader that names the value after `tensor` finds its own name in the metadata."""
        if tensor != value:
            self.renamed.setdefault(tensor, value)

    def constant(self, wish: str, array: npt.NDArray[Any], *, few_bits: bool = False) -> str:
        """`few_bits`: integers from -8 to 7, to be stored as INT4 where all activations are uint8."""
        name, stored = self.fresh(wish), np.array(array, order="C")
        if few_bits and self._int4:
            stored = stored.astype(helper.tensor_dtype_to_np_dtype(TensorProto.INT4))
            self.versions = FEW_BITS_OPSET, FEW_BITS_IR_VERSION
        self.initializers.append(numpy_helper.from_array(stored, name))
        return name

    def node(self, operator: str, inputs: Iterable[str], output: str, *, domain: str = "", **attributes: Any) -> str:
        """Append a node of one output; returns the output's name."""
        self.versions = max(self.versions, (SINCE.get(operator, OPSET), IR_VERSION))
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=f"{operator}:{output}", domain=domain, **attributes))
        return output

    def refuse(self, node: Node, reason: str) -> None:
        self.problems.append(Unsupported(node=node.name, operator=type(node.op).__name__, reason=reason))

    def host(self, steps: Iterable[HostStep], current: str, final: str | None = None) -> str:
        """Write host steps as float operators after tensor `current`; the last result is named `final`, if given."""
        todo = list(steps)
        for index, step in enumerate(todo):
            last = final if index == len(todo) - 1 else None
            current = self._step(step, current, last or self.fresh(f"{current}.{type(step).__name__.lower()}"))
        return current

    def _step(self, step: HostStep, current: str, output: str) -> str:
        match step:
            case Reshape():
                shape = self.constant(f"{output}.shape", np.array([0, *step.shape], np.int64))
                return self.node("Reshape", [current, shape], output)
            case Transpose():
                return self.node("Transpose", [current], output, perm=list(step.permutation))
            case Affine():
                return self._affine(step, current, output)
            case Softmax() | LogSoftmax():
                return self.node(type(step).__name__, [current], output, axis=step.axis)
            case Take():
                return self.node("Gather", [current, self.constant(f"{output}.indices", np.array(step.indices, np.int64))], output, axis=step.axis)
            case ArgExtremum():
                operator = "ArgMax" if step.largest else "ArgMin"
                index = self.node(operator, [current], self.fresh(f"{output}.index"), axis=step.axis, keepdims=1, select_last_index=int(step.last))
                return self.node("Cast", [index], output, to=TensorProto.FLOAT)

    def _affine(self, step: Affine, current: str, output: str) -> str:
        scale, offset = np.asarray(step.scale, np.float32), np.asarray(step.offset, np.float32)
        if not offset.any():
            return self.node("Mul", [current, self.constant(f"{output}.scale", scale)], output)
        if (scale != 1).any():
            current = self.node("Mul", [current, self.constant(f"{output}.scale", scale)], self.fresh(f"{output}.scaled"))
        return self.node("Add", [current, self.constant(f"{output}.offset", offset)], output)

    def model(self) -> onnx.ModelProto:
        """The finished model; raises UnsupportedError for everything that was refused."""
        if self.problems:
            raise UnsupportedError(self.problems)
        graph = self.graph
        inputs = [helper.make_tensor_value_info(entry.name, _element_type(entry.dtype), _dimensions(entry)) for entry in graph.inputs]
        outputs = [helper.make_tensor_value_info(entry.name, TensorProto.FLOAT, _dimensions(entry)) for entry in graph.outputs]
        body = helper.make_graph(self.nodes, graph.name or "network", inputs, outputs, self.initializers)
        opset, ir_version = self.versions
        opsets = [helper.make_opsetid("", opset)]
        if any(node.domain == MICROSOFT for node in self.nodes):
            opsets.append(helper.make_opsetid(MICROSOFT, 1))
        model = helper.make_model(body, opset_imports=opsets, ir_version=ir_version, producer_name="hwgen")
        arithmetic = graph.arithmetic
        notes = {NOTE_MULTIPLIER_BITS: str(arithmetic.multiplier_bits), NOTE_ROUNDING: arithmetic.rounding.value}
        if self.renamed:
            notes[NOTE_RENAMED] = json.dumps(self.renamed, sort_keys=True)
        helper.set_model_props(model, notes)
        return model

    def enter(self, entry: GraphInput) -> str:
        """The float tensor (N, C, H, W) of a graph input after its host steps."""
        current = entry.name
        if entry.dtype != "float32":
            current = self.node("Cast", [current], self.fresh(f"{current}.float"), to=TensorProto.FLOAT)
        return self.host(simplified((*entry.steps, Transpose(permutation=TO_CHANNELS_FIRST)), entry.shape[1:]), current)

    def leave_steps(self, output: GraphOutput) -> tuple[HostStep, ...]:
        """The host steps from (N, C, H, W) to what the network returns."""
        kind = self.graph.values[output.value].type
        return simplified((Transpose(permutation=TO_CHANNELS_LAST), *output.steps), (kind.channels, kind.height, kind.width))


def _element_type(dtype: str) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _dimensions(entry: GraphInput | GraphOutput) -> list[int | str]:
    return ["N" if size < 0 else size for size in entry.shape]
