"""Known answers as C tables: inputs in full, results as CRC-32."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hwgen.emit.firmware_tables import int_array, word_array
from hwgen.emit.names import plain
from hwgen.errors import DataError
from hwgen.ir.graph import Graph
from hwgen.layout import Int8Array


@dataclass(frozen=True, kw_only=True, eq=False)
class KnownAnswer:
    """The golden model's int8 array (H, W, C) of every value of the graph, inputs included, for one image."""

    values: Mapping[str, Int8Array]

    @staticmethod
    def from_batch(values: Mapping[str, Int8Array], index: int) -> KnownAnswer:
        """Image `index` of golden's arrays (N, H, W, C)."""
        return KnownAnswer(values={name: array[index] for name, array in values.items()})


@dataclass(frozen=True, kw_only=True)
class AnswerRow:
    inputs: str
    layers: str
    outputs: str


@dataclass(frozen=True, kw_only=True)
class AnswersView:
    prefix: str
    macro: str
    vectors: int
    largest_tensor: int
    tables: tuple[str, ...]
    answers: tuple[AnswerRow, ...]


def crc32(array: Int8Array) -> int:
    """Of the bytes in C order."""
    return zlib.crc32(np.ascontiguousarray(array, np.int8).tobytes())


def _array(answer: KnownAnswer, graph: Graph, name: str) -> Int8Array:
    shape = graph.values[name].type.shape
    if name not in answer.values:
        raise DataError(f"known answer: must hold value {plain(name)!r}; run the golden model with every value kept")
    array = answer.values[name]
    if array.shape != shape or array.dtype != np.int8:
        raise DataError(f"known answer: value {plain(name)!r} must be int8 of shape {shape}, not {array.dtype} of shape {array.shape}")
    return array


def build_answers(graph: Graph, answers: tuple[KnownAnswer, ...], prefix: str) -> AnswersView:
    """The view of <prefix>_kat.c. Raises DataError when an answer does not fit the graph, or there is none."""
    if not answers:
        raise DataError("known answers: at least one vector is needed to test the firmware; give inputs")
    tables, rows = [], []
    for number, answer in enumerate(answers):
        names = []
        for k, entry in enumerate(graph.inputs):
            names.append(f"input_{number}_{k}")
            tables.append(int_array("int8_t", names[-1], _array(answer, graph, entry.value).reshape(-1).tolist()))
        layers = f"layers_{number}"
        tables.append(word_array(layers, [crc32(_array(answer, graph, node.output)) for node in graph.nodes]))
        outputs = ", ".join(f"UINT32_C(0x{crc32(_array(answer, graph, output.value)):08x})" for output in graph.outputs)
        rows.append(AnswerRow(inputs=", ".join(names), layers=layers, outputs=outputs))
    largest = max(graph.values[output.value].type.elements for output in graph.outputs)
    return AnswersView(prefix=prefix, macro=prefix.upper(), vectors=len(rows), largest_tensor=largest, tables=tuple(tables), answers=tuple(rows))
