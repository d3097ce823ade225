"""The greatest element along any dimensions but the batch, where the processor must move them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from hwgen.frontend.onnx_arrange import place
from hwgen.frontend.onnx_builder import Builder
from hwgen.frontend.onnx_node import OnnxNode
from hwgen.frontend.onnx_view import C, H, Image
from hwgen.ir import host
from hwgen.ops.base import Window
from hwgen.ops.max_pool import MaxPool


def greatest(builder: Builder, node: OnnxNode, image: Image, reduced: Sequence[int], keep: bool) -> None:
    """The greatest over dimensions of which one is that of the channels: the processor puts them along the rows."""
    if not builder.processor:
        raise node.refuse("must run over height and width only, not over channels", "axes")
    shape, rest = image.shape, [index for index in range(len(image.shape)) if index not in reduced]
    rows, others = math.prod(shape[index] for index in reduced), math.prod(shape[index] for index in rest)
    turned = host.Transpose(permutation=(0, *(1 + index for index in (*reduced, *rest))))
    name = builder.fresh(f"{image.value}.turned")
    source = place(builder, node, image.value, (*image.to_host(), turned, host.Reshape(shape=(rows, others))), (rows, others), ((H,), (C,)), name)
    partial = builder.free_name(node, "greatest")
    builder.emit(replace(node, outputs=(partial,)), MaxPool(window=Window(kernel=(rows, 1))), [source], ((C,),))
    result = builder.env[partial]
    assert isinstance(result, Image)
    target = [1 if index in reduced else size for index, size in enumerate(shape) if keep or index not in reduced]
    builder.hand_over(node, result, host.Reshape(shape=tuple(target)), "is seen in another shape")
