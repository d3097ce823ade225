"""The errors that users meet. Message form: "thing (operator and node name): rule, value, way out"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class HwgenError(Exception):
    """Base of every error that is the input's or the environment's fault; the command line prints it without a traceback."""


class ModelError(HwgenError):
    """The model file is damaged, malformed or self-contradictory."""


@dataclass(frozen=True, kw_only=True)
class Unsupported:
    """One node that hwgen refuses, with the reason."""

    node: str
    operator: str
    reason: str
    attribute: str = ""

    def __str__(self) -> str:
        attribute = f", attribute {self.attribute}" if self.attribute else ""
        return f"{self.operator} {self.node!r}{attribute}: {self.reason}"


class UnsupportedError(ModelError):
    """The model is valid, but holds nodes that hwgen does not implement; lists all of them."""

    def __init__(self, problems: Sequence[Unsupported]) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        plural = "node is" if len(self.problems) == 1 else "nodes are"
        super().__init__(f"{len(self.problems)} {plural} not supported:\n{lines}")


class ConfigError(HwgenError):
    """An illegal configuration value or combination."""


class DataError(HwgenError):
    """Input arrays (calibration, test vectors, labels) that do not fit the model."""


class QuantizationError(HwgenError):
    """No legal integer form exists: bad scale, overflow of the accumulator, missing calibration."""


class CapacityError(HwgenError):
    """A tensor, a layer or a program does not fit the configured hardware."""


class ToolError(HwgenError):
    """An external tool is missing or failed."""


class OutputError(HwgenError):
    """The output place cannot be written."""


class MismatchError(HwgenError):
    """Two executions that must agree do not."""
