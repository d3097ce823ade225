"""Networks of well-known shapes with seeded random weights, for speed and exactness where the trained ones are not at hand.

    python tools/seeded_networks.py FOLDER [NAME ...]     writes NAME.onnx and NAME_calibration.npz

The shapes are those of the papers (MobileNet arXiv 1704.04861, MobileNetV2 1801.04381, ResNet 1512.03385, SqueezeNet 1602.07360) and of the
MLPerf Tiny reference models (github.com/mlcommons/tiny). Two runs give the same bytes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from tools.network_writer import Activation, Array, NetworkWriter

SEED = 1
CALIBRATION_INPUTS = 4


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A network's shape: input (C, H, W) or (C,), and the layers from it to the output. `macs` per inference, as the source counts them."""

    title: str
    input_shape: tuple[int, ...]
    layers: Callable[[NetworkWriter, Activation], Activation]
    macs: int
    batch_norm: bool = True


def _resnet8(net: NetworkWriter, x: Activation) -> Activation:
    """MLPerf Tiny image classification: three residual stages of 16, 32 and 64 channels."""
    x = net.relu(net.conv(x, 16, (3, 3)))
    for channels in (16, 32, 64):
        x = _residual_block(net, x, channels, stride=1 if channels == 16 else 2)
    return net.dense(net.global_average(x), 10)


def _resnet18(net: NetworkWriter, x: Activation) -> Activation:
    x = net.relu(net.conv(x, 64, (7, 7), stride=2, pads=3))
    x = net.max_pool(x, 3, stride=2, pads=1)
    for channels in (64, 128, 256, 512):
        x = _residual_block(net, x, channels, stride=1 if channels == 64 else 2, pads=1)
        x = _residual_block(net, x, channels, stride=1, pads=1)
    return net.dense(net.global_average(x), 1000)


def _residual_block(net: NetworkWriter, x: Activation, channels: int, *, stride: int, pads: int | None = None) -> Activation:
    y = net.relu(net.conv(x, channels, (3, 3), stride=stride, pads=pads))
    y = net.conv(y, channels, (3, 3), pads=pads)
    shortcut = x if stride == 1 and x.shape[0] == channels else net.conv(x, channels, (1, 1), stride=stride, pads=0)
    return net.relu(net.add(y, shortcut))


def _mobilenet_v1(divisor: int, classes: int, activation: str = "relu") -> Callable[[NetworkWriter, Activation], Activation]:
    """Channels of the paper divided by `divisor`."""
    blocks = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]

    def layers(net: NetworkWriter, x: Activation) -> Activation:
        act = getattr(net, activation)
        x = act(net.conv(x, 32 // divisor, (3, 3), stride=2))
        for channels, stride in blocks:
            x = act(net.conv(x, x.shape[0], (3, 3), stride=stride, depthwise=True))
            x = act(net.conv(x, channels // divisor, (1, 1)))
        return net.dense(net.global_average(x), classes)

    return layers


def _mobilenet_v2(net: NetworkWriter, x: Activation) -> Activation:
    """Inverted residuals: (expansion, channels, repetitions, stride), table 2 of the paper."""
    x = net.relu6(net.conv(x, 32, (3, 3), stride=2))
    for expansion, channels, repetitions, stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ):  # fmt: skip
        for repetition in range(repetitions):
            y = x if expansion == 1 else net.relu6(net.conv(x, expansion * x.shape[0], (1, 1)))
            y = net.relu6(net.conv(y, y.shape[0], (3, 3), stride=1 if repetition else stride, depthwise=True))
            y = net.conv(y, channels, (1, 1))
            x = net.add(y, x) if repetition else y
    x = net.relu6(net.conv(x, 1280, (1, 1)))
    return net.dense(net.global_average(x), 1000)


def _squeezenet(net: NetworkWriter, x: Activation) -> Activation:
    """SqueezeNet 1.0: eight fire modules (squeezed, expanded), poolings with ceil as in Caffe."""
    x = net.max_pool(net.relu(net.conv(x, 96, (7, 7), stride=2, pads=0)), 3, stride=2, ceil=True)
    for index, (squeezed, expanded) in enumerate(((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))):
        y = net.relu(net.conv(x, squeezed, (1, 1)))
        x = net.concat(net.relu(net.conv(y, expanded, (1, 1))), net.relu(net.conv(y, expanded, (3, 3))))
        if index in (2, 6):
            x = net.max_pool(x, 3, stride=2, ceil=True)
    return net.global_average(net.relu(net.conv(x, 1000, (1, 1), pads=1)))  # the padding is that of the published model


def _dscnn(net: NetworkWriter, x: Activation) -> Activation:
    """MLPerf Tiny keyword spotting."""
    x = net.relu(net.conv(x, 64, (10, 4), stride=2))
    for _ in range(4):
        x = net.relu(net.conv(x, 64, (3, 3), depthwise=True))
        x = net.relu(net.conv(x, 64, (1, 1)))
    return net.dense(net.global_average(x), 12)


def _autoencoder(net: NetworkWriter, x: Activation) -> Activation:
    """MLPerf Tiny anomaly detection."""
    for outputs in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        x = net.relu(net.dense(x, outputs))
    return net.dense(x, 640, gain=1.0)


SHAPES = {
    "resnet8": Shape(title="ResNet-8", input_shape=(3, 32, 32), layers=_resnet8, macs=12_501_632),
    "mobilenetv1_025_96": Shape(title="MobileNetV1 0.25 96x96", input_shape=(3, 96, 96), layers=_mobilenet_v1(4, 2), macs=7_489_664),
    "dscnn": Shape(title="DS-CNN", input_shape=(1, 49, 10), layers=_dscnn, macs=2_656_768),
    "autoencoder": Shape(title="autoencoder", input_shape=(640,), layers=_autoencoder, macs=264_192, batch_norm=False),
    "mobilenetv1_025_128": Shape(title="MobileNetV1 0.25 128x128", input_shape=(3, 128, 128), layers=_mobilenet_v1(4, 1001, "relu6"), macs=13_570_304),
    "squeezenet10": Shape(title="SqueezeNet 1.0 227x227", input_shape=(3, 227, 227), layers=_squeezenet, macs=861_339_936, batch_norm=False),
    "mobilenetv1_100_224": Shape(title="MobileNetV1 1.0 224x224", input_shape=(3, 224, 224), layers=_mobilenet_v1(1, 1000, "relu6"), macs=568_740_352),
    "mobilenetv2_100_224": Shape(title="MobileNetV2 1.0 224x224", input_shape=(3, 224, 224), layers=_mobilenet_v2, macs=300_774_272),
    "resnet18": Shape(title="ResNet-18 224x224", input_shape=(3, 224, 224), layers=_resnet18, macs=1_814_073_344),
}


def network(name: str, *, batch_norm: bool | None = None) -> onnx.ModelProto:
    """The network `name` of SHAPES as a float ONNX model. `batch_norm`: as nodes of their own; None: as is usual for that network."""
    shape = SHAPES[name]
    writer = NetworkWriter(name=name, seed=SEED, batch_norm=shape.batch_norm if batch_norm is None else batch_norm)
    x = Activation(name="x", shape=shape.input_shape)
    y = shape.layers(writer, x)
    assert writer.macs == shape.macs, f"{name}: {writer.macs} MACs"
    return writer.model(x, y)


def inputs(name: str, count: int = CALIBRATION_INPUTS) -> Array:
    """(count, *input shape) with mean 0 and variance 1: a smooth part, so that neighbours are alike as in pictures, and noise."""
    shape = SHAPES[name].input_shape
    random = np.random.default_rng(SEED + 1)
    noise = random.standard_normal((count, *shape), np.float32)
    coarse = random.standard_normal((count, *(n if k == 0 else -(-n // 8) for k, n in enumerate(shape))), np.float32)
    for axis, size in enumerate(shape[1:], start=2):
        coarse = np.repeat(coarse, 8, axis).take(range(size), axis)
    mixed: Array = ((noise + 2 * coarse) / np.sqrt(5)).astype(np.float32)
    return mixed


def write(name: str, folder: Path) -> tuple[Path, Path]:
    """Model and calibration inputs of the network `name`, as files in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    model, calibration = folder / f"{name}.onnx", folder / f"{name}_calibration.npz"
    model.write_bytes(network(name).SerializeToString(deterministic=True))
    np.savez(calibration, x=inputs(name))
    return model, calibration


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Write networks of well-known shapes with seeded random weights.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SHAPES)}; default: all")
    arguments = parser.parse_args(argv)
    unknown = [name for name in arguments.names if name not in SHAPES]
    if unknown:
        parser.error(f"no network {', '.join(unknown)}; there are {', '.join(SHAPES)}")
    for name in arguments.names or SHAPES:
        print(*write(name, arguments.folder), sep="\n")


if __name__ == "__main__":
    main()
