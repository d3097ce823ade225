"""Trained networks: the emitted reference reproduces golden's every layer."""

from pathlib import Path

import numpy as np
import pytest
from firmware_support import firmware_input, hardware_for, make, write
from openset_support import calibration, model_path

from hwgen.emit.firmware import emit_firmware
from hwgen.frontend.onnx import load_float_graph
from hwgen.quantize.quantizer import quantize


@pytest.mark.parametrize("name", ["resnet8_cifar10_nhwc", "kws_dscnn", "mnist_lenet_cntk"])
def test_reference_of_trained_network(name: str, tmp_path: Path) -> None:
    graph = load_float_graph(model_path(name))
    quantized = quantize(graph, {graph.inputs[0].name: np.asarray(calibration(name, 8))})
    source = firmware_input(quantized, config=hardware_for(quantized, "16x16"))
    result = make(write(emit_firmware(source), tmp_path), "test")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.splitlines()[-1] == f"{source.prefix}: 2 known answers, {len(source.graph.nodes)} layers: ok"
