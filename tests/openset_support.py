"""The open set of trained networks beside the repository: tests that need it are skipped where it is absent."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest

from tools.open_set import FLOAT_MODELS, open_set

__all__ = ["FLOAT_MODELS", "calibration", "model_path", "openset", "run_in_batches", "session"]


def openset() -> ModuleType:
    """The open set's own module; skips the test where it is absent."""
    module = open_set()
    if module is None:
        pytest.skip("the open set is not here")
    return module


def model_path(name: str) -> Path:
    return Path(openset().model_path(openset().CASES[name]))


def calibration(name: str, count: int) -> Any:
    """(count, ...) float32 network inputs."""
    if "imagenet" in name:
        pytest.importorskip("PIL")
    return openset().calibration(openset().CASES[name], count)[:count].astype(np.float32)


def session(path: Path | bytes) -> onnxruntime.InferenceSession:
    """A quiet ONNX Runtime session on one thread, without graph optimizations: one of them fuses a Pad of zeros into MaxPool, which changes results."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(path if isinstance(path, bytes) else str(path), options)


def run_in_batches(path: Path, x: Any) -> list[Any]:
    """Every output of ONNX Runtime on x, fed in batches that the model allows."""
    runtime = session(path)
    node = runtime.get_inputs()[0]
    batch = node.shape[0] if isinstance(node.shape[0], int) else 64
    parts = [runtime.run(None, {node.name: x[k : k + batch]}) for k in range(0, len(x), batch)]
    return [np.concatenate(output) for output in zip(*parts, strict=True)]
