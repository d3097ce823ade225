"""How well a quantized network does what its float form does: accuracy, agreement, SQNR of every output before a final Softmax."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hwgen.arrays import AnyArray
from hwgen.ir.evaluate import from_canonical
from hwgen.ir.graph import Graph
from hwgen.layout import Int8Array
from hwgen.network import Labels
from hwgen.quantize.metrics import agreement, sqnr_db, top1


@dataclass(frozen=True, kw_only=True)
class OutputScore:
    """One network output before a final Softmax. None: no float network, no labels, or not one vector per input."""

    name: str
    float_accuracy: float | None
    accuracy: float | None
    agreement: float | None
    sqnr_db: float | None


def real_outputs(graph: Graph, codes: Mapping[str, Int8Array]) -> dict[str, npt.NDArray[np.float32]]:
    """What the codes (N, H, W, C) of the output values mean, by output name, shaped as the ONNX model has it, before a final Softmax."""
    return {o.name: from_canonical(o, graph.values[o.value].quantized.dequantize(codes[o.value]), softmax=False).astype(np.float32) for o in graph.outputs}


def score(name: str, real: AnyArray, reference: AnyArray | None, labels: Labels | None) -> OutputScore:
    """Of one output, against the float network's `reference` and the labels, where there are any."""
    return OutputScore(
        name=name,
        float_accuracy=top1(reference, labels) if reference is not None and labels is not None else None,
        accuracy=top1(real, labels) if labels is not None else None,
        agreement=agreement(reference, real) if reference is not None else None,
        sqnr_db=sqnr_db(reference, real) if reference is not None else None,
    )
