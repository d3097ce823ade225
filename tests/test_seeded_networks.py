"""Networks of well-known shapes with random weights: their MACs, their activations, their bytes."""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from openset_support import model_path, session

from hwgen.frontend.onnx import load_float_graph
from tools.bench_cases import TRAINED
from tools.network_writer import same_pads
from tools.seeded_networks import SHAPES, inputs, main, network, write

SMALL = ("resnet8", "mobilenetv1_025_96", "dscnn", "autoencoder")


def macs_of(model: onnx.ModelProto) -> int:
    """By ONNX's own shape inference: products of every Conv, Gemm and MatMul, batch 1."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {i.name: list(i.dims) for i in graph.initializer}
    shapes |= {v.name: [d.dim_value or 1 for d in v.type.tensor_type.shape.dim] for v in (*graph.value_info, *graph.output)}
    return sum(
        prod(shapes[node.output[0]]) * (prod(shapes[node.input[1]][1:]) if node.op_type == "Conv" else shapes[node.input[1]][0])
        for node in graph.node
        if node.op_type in ("Conv", "Gemm", "MatMul")
    )


def kernels(model: onnx.ModelProto) -> list[tuple[int, ...]]:
    shapes = {i.name: tuple(i.dims) for i in model.graph.initializer}
    return sorted(shapes[node.input[1]] for node in model.graph.node if node.op_type == "Conv")


@pytest.mark.parametrize("name", SHAPES)
def test_macs_are_those_of_the_source(name: str) -> None:
    assert macs_of(network(name)) == SHAPES[name].macs


@pytest.mark.parametrize("name", TRAINED)
def test_shape_is_that_of_the_trained_network(name: str) -> None:
    """Convolutions of the seeded network have the kernels of the trained one's; a 1x1 convolution of one pixel may be a Gemm here."""
    trained, seeded = (kernels(model) for model in (onnx.load(model_path(TRAINED[name])), network(name)))
    assert trained == seeded + ([(1001, 256, 1, 1)] if name == "mobilenetv1_025_128" else [])


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("batch_norm", [False, True])
def test_activations_keep_their_range(name: str, batch_norm: bool) -> None:
    model = network(name, batch_norm=batch_norm)
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(node.output[0]) for node in model.graph.node)
    deviations = [float(y.std()) for y in session(model.SerializeToString()).run(None, {"x": inputs(name, 2)})]
    assert min(deviations) > 0.02
    assert max(deviations) < 5
    assert any(node.op_type == "BatchNormalization" for node in model.graph.node) == (batch_norm and name != "autoencoder")


@pytest.mark.parametrize("name", SMALL)
def test_hwgen_reads_it(name: str, tmp_path: Path) -> None:
    model, calibration = write(name, tmp_path)
    graph = load_float_graph(model)
    with np.load(calibration) as arrays:
        x = arrays["x"]
    assert x.shape[1:] == SHAPES[name].input_shape
    assert [entry.name for entry in graph.inputs] == ["x"]
    y = onnxruntime.InferenceSession(str(model)).run(None, {"x": x})[0]
    assert float(y.std(0).min()) > 0, "every output depends on the input"


def test_two_runs_give_the_same_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("a", "b"):
        main([str(tmp_path / folder), "dscnn"])
    assert capsys.readouterr().out.count("dscnn") == 4
    for name in ("dscnn.onnx", "dscnn_calibration.npz"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_unknown_names_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path), "resnet8", "resnet9"])
    assert "no network resnet9; there are resnet8," in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_inputs_are_normal_and_smooth() -> None:
    x = inputs("resnet8", 16)
    assert abs(float(x.mean())) < 0.2
    assert abs(float(x.std()) - 1) < 0.2
    assert float((x[..., 0, 1] * x[..., 0, 2]).mean()) > 0.4, "neighbours in a patch of 8 are alike"


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads"),
    [(32, 3, 1, (1, 1)), (32, 3, 2, (0, 1)), (10, 4, 2, (1, 1)), (49, 10, 2, (4, 5)), (8, 1, 2, (0, 0))],
)
def test_same_pads(size: int, kernel: int, stride: int, pads: tuple[int, int]) -> None:
    assert same_pads(size, kernel, stride) == pads
    assert (size + sum(pads) - kernel) // stride + 1 == -(-size // stride)
