"""The invariants of a graph: checked after optimization and before anything is computed from it."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from hwgen.errors import ModelError
from hwgen.ir.graph import Graph, Node


def verify(graph: Graph) -> None:
    """Raises ModelError unless every value is assigned once, before it is read, with the type that its operator infers, from finite parameters."""
    known = set()
    for graph_input in graph.inputs:
        if graph_input.value in known:
            raise ModelError(f"input {graph_input.name!r}: value {graph_input.value!r} must be assigned once")
        known.add(graph_input.value)
    for node in graph.nodes:
        where = f"{type(node.op).__name__} {node.name!r}"
        for name in node.inputs:
            if name not in known:
                raise ModelError(f"{where}: input {name!r} must be computed before it is read")
        if node.output in known:
            raise ModelError(f"{where}: value {node.output!r} must be assigned once")
        known.add(node.output)
        _verify_type(graph, node, where)
        _verify_parameters(node, where)
    for output in graph.outputs:
        if output.value not in known:
            raise ModelError(f"output {output.name!r}: value {output.value!r} must be computed")
    if known != set(graph.values):
        raise ModelError(f"graph {graph.name!r}: values must be those of its inputs and nodes, but differ in {sorted(known ^ set(graph.values))}")
    for name, value in graph.values.items():
        if value.name != name:
            raise ModelError(f"graph {graph.name!r}: value {value.name!r} must be stored under its own name, not {name!r}")


def _verify_type(graph: Graph, node: Node, where: str) -> None:
    try:
        inferred = node.op.infer(*graph.input_types(node))
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from error
    declared = graph.values[node.output].type
    if inferred != declared:
        raise ModelError(f"{where}: value {node.output!r} must be of shape {inferred.shape}, not {declared.shape}")


def _verify_parameters(node: Node, where: str) -> None:
    """Arrays and fill values must be finite; clamps must be intervals, whose ends may be infinite."""
    for field in fields(node.op):  # type: ignore[arg-type]  # every operator is a dataclass; the Protocol cannot say so
        parameter = getattr(node.op, field.name)
        if isinstance(parameter, np.ndarray | float) and not np.isfinite(parameter).all():
            raise ModelError(f"{where}: {field.name} must be finite, but holds NaN or infinity; train or export the model again")
        if field.name == "clamp" and not np.less_equal(*parameter).all():
            raise ModelError(f"{where}: clamp must be an interval, not {parameter}")
