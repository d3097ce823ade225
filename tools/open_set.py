"""Networks to measure: the open set of trained networks beside the repository, where it is there, and the example inside it.

Definitions are those of the open set's baseline_onnxruntime.py: calibration inputs stay out of the evaluation, `label_offset`, AUC.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from hwgen.config import DEFAULT_PRESET, PRESETS, HardwareConfig
from hwgen.quantize.metrics import top1

Array = npt.NDArray[Any]

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
TITLES = {
    "mnist_lenet_cntk": "LeNet, MNIST",
    "mnist_mlp_bn_onnx2c": "MLP, MNIST",
    "resnet8_cifar10_nhwc": "ResNet-8, CIFAR-10",
    "kws_dscnn": "DS-CNN, keywords",
    "sww_ds1d": "DS-1D, wake word",
    "vww_mobilenetv1_025": "MobileNetV1 0.25, visual wake words",
    "ad_autoencoder": "autoencoder, anomaly detection",
    "mobilenetv1_025_128_imagenet": "MobileNetV1 0.25 128, ImageNet",
    "squeezenet10_imagenet": "SqueezeNet 1.0, ImageNet",
}
FLOAT_MODELS = tuple(TITLES)
CALIBRATION_INPUTS, FEW_CALIBRATION_INPUTS = 128, 48  # few: where they are taken from a small evaluation set
FRAMES_PER_CLIP = 196  # of the anomaly detection network: one label for so many inputs


@dataclass(frozen=True, kw_only=True)
class Network:
    """A float model and its data. `score(outputs, inputs)` is top-1 accuracy or AUC (`metric`), the outputs before a final Softmax."""

    title: str
    model: Path
    calibration: Array
    inputs: Array
    score: Callable[[Array, Array], float]
    metric: str = "top1"
    hardware: HardwareConfig = field(default_factory=lambda: PRESETS[DEFAULT_PRESET])


def open_set() -> ModuleType | None:
    """The open set's own module; None where it is absent."""
    if not (SHARED / "openset.py").is_file():
        return None
    if str(SHARED) not in sys.path:
        sys.path.append(str(SHARED))
    return import_module("openset")


def from_open_set(module: ModuleType, name: str) -> Network:
    """One network of the open set; calibration inputs that come from its evaluation data are left out there."""
    case = module.CASES[name]
    x, y = module.load(case)
    x, y = x.astype(np.float32), np.asarray(y)
    calibration, x, y = _apart(module, case, x, y)
    return Network(
        title=TITLES[name],
        model=Path(module.model_path(case)),
        calibration=calibration,
        inputs=x,
        score=lambda outputs, inputs: float(module.score(case, outputs, y, inputs)),
        metric=case.metric,
    )


def _apart(module: ModuleType, case: Any, x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Calibration inputs, evaluation inputs, their labels."""
    if case.calibration:
        return module.calibration(case, CALIBRATION_INPUTS).astype(np.float32), x, y
    if case.metric == "auc":  # whole clips, four of forty
        clips = max(1, len(y) // 10)
        return x[: clips * FRAMES_PER_CLIP], x[clips * FRAMES_PER_CLIP :], y[clips:]
    count = min(CALIBRATION_INPUTS if "kws" in case.name else FEW_CALIBRATION_INPUTS, len(x) // 3)
    return x[:count], x[count:], y[count:]


def example() -> Network:
    """The network that lies in the repository."""
    folder = ROOT / "examples/digits"
    with np.load(folder / "calibration.npz") as calibration, np.load(folder / "test.npz") as test:
        labels = test["y"].astype(np.int64)
        return Network(
            title="example, handwritten digits",
            model=folder / "model.onnx",
            calibration=calibration["image"],
            inputs=test["image"].astype(np.float32),
            score=lambda outputs, inputs: top1(outputs, labels),
        )
