"""QONNX's quantizers in NumPy for onnx's reference evaluator, in float64 like all around them: the witness of the integers."""

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

ROUND = {"ROUND": np.round, "HALF_EVEN": np.round, "FLOOR": np.floor, "CEIL": np.ceil}


def integers_of(x, scale, zero_point, bits, signed, narrow, rounding_mode):
    bits = int(bits)
    if signed and bits == 1:
        return np.where(x / scale + zero_point >= 0, 1.0, -1.0)
    low, high = (-(2 ** (bits - 1)) + bool(narrow), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1 - bool(narrow))
    return ROUND[(rounding_mode or "ROUND").upper()](np.clip(x / scale + zero_point, low, high))


class Quant(OpRun):
    op_domain = "witness"

    def _run(self, x, scale, zero_point, bits, signed=1, narrow=0, rounding_mode="ROUND"):
        return ((integers_of(x, scale, zero_point, bits, signed, narrow, rounding_mode) - zero_point) * scale,)


class BipolarQuant(OpRun):
    op_domain = "witness"

    def _run(self, x, scale):
        return (np.where(x >= 0, 1.0, -1.0) * scale,)


class Trunc(OpRun):
    op_domain = "witness"

    def _run(self, x, scale, zero_point, in_bits, out_bits, rounding_mode="FLOOR"):
        whole = np.round(x / scale + zero_point) / 2.0 ** (int(in_bits) - int(out_bits))
        return ((ROUND[(rounding_mode or "FLOOR").upper()](whole) - zero_point) * scale,)


class Normalization(OpRun):
    """BatchNormalization: the reference evaluator's own gives other numbers in float64 than ONNX's formula, by parts per thousand."""

    op_domain = "witness"

    def _run(self, x, scale, offset, mean, variance, epsilon=1e-5):
        factor, *others = (a.reshape(1, -1, *(1 for _ in x.shape[2:])) for a in (scale / np.sqrt(variance + epsilon), mean, offset))
        return ((x - others[0]) * factor + others[1],)


def in_float64(model, *keep):
    """The model with all real constants in float64, quantizers of one domain, and the tensors `keep` as outputs too."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for tensor in wide.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float64), tensor.name))
    for node in wide.graph.node:
        if node.op_type == "BatchNormalization":
            node.op_type, node.domain = "Normalization", "witness"
            kept = [a for a in node.attribute if a.name == "epsilon"]
            del node.attribute[:]
            node.attribute.extend(kept)
        if node.op_type in ("Quant", "IntQuant", "BipolarQuant", "Trunc"):
            node.domain = "witness"
            node.op_type = node.op_type.removeprefix("Int")
    for entry in (*wide.graph.input, *wide.graph.output):
        entry.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    for name in keep:
        wide.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, None))
    del wide.opset_import[:]
    versions = {"": max(entry.version for entry in model.opset_import if entry.domain == ""), "witness": 1}
    wide.opset_import.extend(onnx.helper.make_opsetid(domain, version) for domain, version in versions.items())
    return wide


def run(model, x, *keep):
    """The outputs and the tensors `keep` for the inputs x, fed in batches that the model allows."""
    evaluator = ReferenceEvaluator(in_float64(model, *keep), new_ops=[Quant, BipolarQuant, Trunc, Normalization])
    entry = next(entry for entry in model.graph.input if entry.name not in {tensor.name for tensor in model.graph.initializer})
    batch = entry.type.tensor_type.shape.dim[0].dim_value or len(x)
    parts = [evaluator.run(None, {entry.name: x[k : k + batch].astype(np.float64)}) for k in range(0, len(x), batch)]
    return [np.concatenate(output) for output in zip(*parts, strict=True)]
