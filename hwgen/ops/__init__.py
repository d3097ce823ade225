"""The operators of the canonical graph, one per file. This table is the register: a new operator is one file and one line."""

from __future__ import annotations

from hwgen.ops.add import Add
from hwgen.ops.average_pool import AveragePool
from hwgen.ops.clamp import Clamp
from hwgen.ops.concat import Concat
from hwgen.ops.conv import Conv
from hwgen.ops.depth_to_space import DepthToSpace
from hwgen.ops.elementwise import Div, Extremum, Mul
from hwgen.ops.local_response import LocalResponse
from hwgen.ops.lookup import Lookup
from hwgen.ops.matmul import MatMul
from hwgen.ops.max_pool import MaxPool
from hwgen.ops.move import Move
from hwgen.ops.normalize import Normalize
from hwgen.ops.pad import Pad
from hwgen.ops.resize import Resize
from hwgen.ops.slice import Slice
from hwgen.ops.softmax import ArgExtremum, LogSoftmax, Softmax

OPERATORS = (
    *(Conv, Add, MaxPool, AveragePool, Concat, Pad, Clamp, Lookup, Slice, Resize, DepthToSpace, Mul, Div, Extremum, MatMul, Softmax, Move),
    *(LogSoftmax, ArgExtremum, Normalize, LocalResponse),
)

__all__ = [
    *("OPERATORS", "Add", "ArgExtremum", "AveragePool", "Clamp", "Concat", "Conv", "DepthToSpace", "Div", "Extremum", "LocalResponse", "LogSoftmax"),
    *("Lookup", "MatMul", "MaxPool", "Move", "Mul", "Normalize", "Pad", "Resize", "Slice", "Softmax"),
]
