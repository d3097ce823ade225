"""Networks that other tools quantized: their integers, on a few inputs; tools/foreign.py measures whole data sets and the Verilog."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import qonnx_witness
from openset_support import openset

from hwgen.config import PRESETS
from hwgen.frontend.onnx import load_model
from hwgen.frontend.qdq import import_quantized_model
from hwgen.ir.evaluate import from_canonical
from hwgen.ir.graph import Arithmetic
from hwgen.ops.conv import Conv
from hwgen.ops.golden import golden, golden_node
from hwgen.packing import WeightFormat
from hwgen.quantize import certificates
from hwgen.schedule.compile import compile_network
from tools.foreign import NAMES, data, model_path

EXACT = Arithmetic(multiplier_bits=24)
QDQ = [name for name in NAMES if not name.endswith("_qonnx")]
FORMATS = {
    "tfc_w1a1_qonnx": WeightFormat.BINARY,
    "tfc_w2a2_qonnx": WeightFormat.TERNARY,
    "kwsmlp_w3a3_qonnx": WeightFormat.INT4,
    "jettagging_w6a6_qonnx": WeightFormat.INT8,
}
QONNX = {"tfc_w1a1_qonnx": 1.0, "tfc_w2a2_qonnx": 1.0, "kwsmlp_w3a3_qonnx": 0.995}  # share of certified channels, at least


def by_onnx_runtime(model, graph, x):
    """Codes of all values of the graph that the model quantizes, from ONNX Runtime with its integer kernels, which it makes of QDQ."""
    quantized = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    wanted = {value: quantized.get(value, value) for value in graph.values if value in quantized or "quantized" in value}
    with_all = onnx.ModelProto()
    with_all.CopyFrom(model)
    for value, name in wanted.items():
        kind = onnx.TensorProto.UINT8 if graph.values[value].quantized.unsigned else onnx.TensorProto.INT8
        with_all.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, None))
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    runtime = onnxruntime.InferenceSession(with_all.SerializeToString(), options)
    entry = runtime.get_inputs()[0]
    batch = entry.shape[0] if isinstance(entry.shape[0], int) else len(x)
    parts = [runtime.run(list(wanted.values()), {entry.name: x[k : k + batch]}) for k in range(0, len(x), batch)]
    return {value: np.concatenate(codes) for value, codes in zip(wanted, zip(*parts, strict=True), strict=True)}


@pytest.mark.parametrize("name", QDQ)
def test_every_operator_equals_onnx_runtime(name):
    """With 24-bit multipliers, each operator on the codes that ONNX Runtime gives it: but for a few in a million, which are one away."""
    module = openset()
    model = load_model(model_path(module, name))
    if "imagenet" in name:  # unpacking all photographs takes longer than the test
        shape = [dimension.dim_value for dimension in model.graph.input[0].type.tensor_type.shape.dim]
        x = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    else:
        x = data(module, name)[0][:4]
    graph = import_quantized_model(model, "m", arithmetic=EXACT)
    codes = golden(graph, {graph.inputs[0].name: x}, keep=graph.values)
    theirs = by_onnx_runtime(model, graph, x)
    for value, array in theirs.items():
        canonical = array.transpose(0, 2, 3, 1) if array.ndim == 4 else array.reshape(codes[value].shape)
        codes[value] = (canonical.astype(np.int16) - graph.values[value].quantized.outside_offset).astype(np.int8)
    wrong = total = 0
    for node in graph.nodes:
        if node.output in theirs:
            found = golden_node(node, graph, *(codes[operand] for operand in node.inputs))
            difference = np.abs(found.astype(int) - codes[node.output])
            assert difference.max() <= 1, node.name
            wrong, total = wrong + int((difference > 0).sum()), total + difference.size
    assert total > 1000 and wrong <= 2e-5 * total + 1


@pytest.mark.parametrize("name", FORMATS)
def test_weights_are_stored_in_as_few_bits_as_they_have(name):
    """The compiler looks at the integers; three bits lie in four. Lanes without a channel hold zeros, which binary has not."""
    graph = import_quantized_model(load_model(model_path(openset(), name)), "m", arithmetic=EXACT, assumed={})
    (kind,) = {node.op.weight_format for node in graph.nodes if isinstance(node.op, Conv)}
    assert kind is FORMATS[name]
    memory = compile_network(graph, replace(PRESETS["16x16"], multiplier_bits=24, weight_decoder=True)).weight_memory
    assert memory.formats == (kind,)
    assert memory.int8_bytes <= kind.digits * memory.stored_bytes < 1.02 * memory.int8_bytes


@pytest.mark.parametrize("name", QONNX)
def test_few_bits_are_those_of_the_float64_meaning(name):
    module = openset()
    path, x = model_path(module, name), data(module, name)[0][:60]
    model = load_model(path)
    graph = import_quantized_model(model, "m")
    assert np.mean([record.certified for record in certificates(graph)]) >= QONNX[name]
    hidden = [node.output for node in graph.nodes][:-1]
    theirs = qonnx_witness.run(model, x, *hidden)
    codes = golden(graph, {graph.inputs[0].name: x}, keep=graph.values)
    for value, real in zip(hidden, theirs[1:], strict=True):
        ours = graph.values[value].quantized.dequantize(codes[value]).transpose(0, 3, 1, 2).reshape(len(x), -1)
        wrong = np.abs(ours - real.reshape(len(x), -1)) > 1e-4
        assert wrong.mean() < (1e-9 if QONNX[name] == 1 else 0.003), value
    output = graph.outputs[0]
    logits = from_canonical(output, graph.values[output.value].quantized.dequantize(codes[output.value])).reshape(len(x), -1)
    assert (logits.argmax(1) == theirs[0].reshape(len(x), -1).argmax(1)).mean() > 0.95
