"""Quantized models as other tools write them, built by hand node by node."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def constant(name, array):
    return numpy_helper.from_array(np.asarray(array), name)


class Foreign:
    """A QDQ model written node by node."""

    def __init__(self, shape, kind=TensorProto.FLOAT):
        self.nodes, self.constants = [], []
        self.input = helper.make_tensor_value_info("x", kind, shape)

    def const(self, name, array):
        self.constants.append(constant(name, array))
        return name

    def node(self, operator, inputs, output, domain="", **attributes):
        self.nodes.append(helper.make_node(operator, inputs, [output], name=f"{operator}_{output}", domain=domain, **attributes))
        return output

    def pair(self, name, scale, zero_point=0, kind=np.uint8):
        return [self.const(f"{name}_s", np.array(scale, np.float32)), self.const(f"{name}_z", np.array(zero_point, kind))]

    def qdq(self, x, scale, zero_point=0, kind=np.uint8):
        pair = self.pair(x, scale, zero_point, kind)
        return self.node("DequantizeLinear", [self.node("QuantizeLinear", [x, *pair], f"{x}_q"), *pair], f"{x}_dq")

    def weight(self, name, codes, scale, zero_point=None, **axis):
        operands = [self.const(name, codes), self.const(f"{name}_s", np.asarray(scale, np.float32))]
        if zero_point is not None:
            operands.append(self.const(f"{name}_z", zero_point))
        return self.node("DequantizeLinear", operands, f"{name}_dq", **axis)

    def model(self, output="y", kind=TensorProto.FLOAT, opset=13):
        result = helper.make_tensor_value_info(output, kind, None)
        graph = helper.make_graph(self.nodes, "foreign", [self.input], [result], self.constants)
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


RNG = np.random.default_rng(7)
WEIGHT = RNG.integers(-127, 128, (4, 2, 3, 3)).astype(np.int8)
BIAS = RNG.integers(-5000, 5000, 4).astype(np.int32)


def conv_model(*, weight=WEIGHT, weight_scale=0.01, weight_zero=None, output_scale=0.1, output_zero=10, kind=np.uint8, **axis):
    f = Foreign(["N", 2, 6, 6])
    x = f.qdq("x", 0.05, 128 if kind == np.uint8 else 0, kind)
    w = f.weight("w", weight, weight_scale, weight_zero, **axis)
    unit = np.float32(0.05) * np.asarray(weight_scale, np.float32)
    b = f.weight("b", BIAS, unit, **({"axis": 0} if np.ndim(weight_scale) else {}))
    f.node("Conv", [x, w, b], "c", kernel_shape=[3, 3])
    f.node("Identity", [f.qdq("c", output_scale, output_zero, kind)], "y")
    return f
