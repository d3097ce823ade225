"""One ONNX node with typed attributes, and how a handler refuses it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from hwgen.errors import ModelError, Unsupported


class Refusal(Exception):
    """A handler's verdict on one node; the importer collects all of them into one UnsupportedError."""

    def __init__(self, problem: Unsupported) -> None:
        super().__init__(str(problem))
        self.problem = problem


@dataclass(frozen=True, kw_only=True)
class OnnxNode:
    """A node of the file. `name` is its own or, when it has none, its first output's. Absent optional inputs are empty strings. `parts`:
    names of the nodes of the file that it stands for together, where it is more than one."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    opset: int
    attributes: Mapping[str, Any]
    proto: onnx.NodeProto
    parts: tuple[str, ...] = ()

    @staticmethod
    def read(proto: onnx.NodeProto, opset: int) -> OnnxNode:
        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in proto.attribute}
        outputs = tuple(proto.output)
        domain = "" if proto.domain in ("", "ai.onnx") else f"{proto.domain}:"
        return OnnxNode(
            name=proto.name or next(filter(None, outputs), ""),
            operator=domain + proto.op_type,
            inputs=tuple(proto.input),
            outputs=outputs,
            opset=opset,
            attributes=attributes,
            proto=proto,
        )

    @property
    def output(self) -> str:
        return self.outputs[0]

    def has_input(self, index: int) -> bool:
        return index < len(self.inputs) and self.inputs[index] != ""

    def integer(self, attribute: str, default: int) -> int:
        return int(self._typed(attribute, default, (int,)))

    def real(self, attribute: str, default: float) -> float:
        return float(self._typed(attribute, default, (int, float)))

    def integers(self, attribute: str, default: Sequence[int] | None = None, count: int | None = None) -> list[int] | None:
        """A list attribute, which must hold `count` numbers where that is given."""
        value = self._typed(attribute, default, (Sequence,)) if attribute in self.attributes else default
        if value is None:
            return None
        if count is not None and len(value) != count:
            raise self.malformed(f"attribute {attribute} must hold {count} numbers, not {len(value)}")
        return [int(number) for number in value]

    def text(self, attribute: str, default: str) -> str:
        value = self.attributes.get(attribute, default)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

    def _typed(self, attribute: str, default: Any, kinds: tuple[type, ...]) -> Any:
        value = self.attributes.get(attribute, default)
        if not isinstance(value, kinds):
            raise self.malformed(f"attribute {attribute} must be {' or '.join(kind.__name__ for kind in kinds)}, not {type(value).__name__}")
        return value

    def refuse(self, reason: str, attribute: str = "") -> Refusal:
        """To be raised: the node is valid ONNX that hwgen does not implement."""
        return Refusal(Unsupported(node=self.name, operator=self.operator, reason=reason, attribute=attribute))

    def malformed(self, reason: str) -> ModelError:
        """To be raised: the node contradicts ONNX or its own inputs."""
        return ModelError(f"{self.operator} {self.name!r}: {reason}")


def needed(nodes: Sequence[OnnxNode], outputs: Collection[str]) -> list[OnnxNode]:
    """Those of the nodes (in topological order) that the tensors `outputs` depend on."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted.intersection(node.outputs):
            wanted.update(node.inputs)
            kept.append(node)
    return kept[::-1]
