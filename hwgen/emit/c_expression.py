"""The stages of hwgen.arith read as C: the functions run on expressions instead of numbers and leave their text behind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from hwgen.arith import IntType, Stage, select


class Operation(Protocol):
    """A compound operation, such as Requantize."""

    @property
    def inputs(self) -> Mapping[str, IntType]: ...

    @property
    def stages(self) -> tuple[Stage, ...]: ...


def _text(operand: Any) -> str:
    return operand.text if isinstance(operand, CExpression) else f"INT64_C({operand})"


class CExpression:
    """An int64_t expression; operators build larger ones, every one in parentheses."""

    __hash__ = None  # type: ignore[assignment]  # == builds an expression, so it cannot agree with any hash

    def __init__(self, text: str) -> None:
        self.text = text

    @property
    def is_name(self) -> bool:
        return self.text.isidentifier()

    def _join(self, symbol: str, other: Any) -> CExpression:
        return CExpression(f"({self.text} {symbol} {_text(other)})")

    def _joined(self, symbol: str, other: Any) -> CExpression:
        return CExpression(f"({_text(other)} {symbol} {self.text})")

    def __add__(self, other: Any) -> CExpression:
        return self._join("+", other)

    def __radd__(self, other: Any) -> CExpression:
        return self._joined("+", other)

    def __sub__(self, other: Any) -> CExpression:
        return self._join("-", other)

    def __rsub__(self, other: Any) -> CExpression:
        return self._joined("-", other)

    def __mul__(self, other: Any) -> CExpression:
        return self._join("*", other)

    def __rmul__(self, other: Any) -> CExpression:
        return self._joined("*", other)

    def __and__(self, other: Any) -> CExpression:
        return self._join("&", other)

    def __rand__(self, other: Any) -> CExpression:
        return self._joined("&", other)

    def __or__(self, other: Any) -> CExpression:
        return self._join("|", other)

    def __invert__(self) -> CExpression:
        return CExpression(f"(~{self.text})")

    def __rshift__(self, other: Any) -> CExpression:
        return self._join(">>", other)

    def __lshift__(self, other: Any) -> CExpression:
        # Shifting a negative number left is undefined in C; the product is the same number.
        return CExpression(f"({self.text} * (INT64_C(1) << {_text(other)}))")

    def __rlshift__(self, other: int) -> CExpression:
        assert other >= 0, "a negative constant shifted left is undefined in C"
        return self._joined("<<", other)

    def __lt__(self, other: Any) -> CExpression:
        return self._join("<", other)

    def __gt__(self, other: Any) -> CExpression:
        return self._join(">", other)

    def __le__(self, other: Any) -> CExpression:
        return self._join("<=", other)

    def __ge__(self, other: Any) -> CExpression:
        return self._join(">=", other)

    def __eq__(self, other: object) -> Any:
        return self._join("==", other)

    def __ne__(self, other: object) -> Any:
        return self._join("!=", other)


@select.register
def _(condition: CExpression, if_true: Any, if_false: Any) -> CExpression:
    return CExpression(f"({condition.text} ? {_text(if_true)} : {_text(if_false)})")


def c_function(name: str, operation: Operation) -> str:
    """A static C99 function `int64_t name(int64_t ...)` with the operands in the order of `operation.inputs`.

    Every operand and intermediate is int64_t, which holds all declared types, so no product or sum can overflow where golden's
    range check passes. Right shifts of negative numbers must be arithmetic; the emitted files check that at compile time.
    """
    operands: dict[str, Any] = {operand: CExpression(operand) for operand in operation.inputs}
    parameters = ", ".join(f"int64_t {operand}" for operand in operands)
    lines = []
    for index, stage in enumerate(operation.stages):
        outputs = stage.function(**operands)
        operands = {}
        for output, value in outputs.items():
            if isinstance(value, CExpression) and value.is_name:
                operands[output] = value
                continue
            lines.append(f"    const int64_t {output}_{index} = {_text(value)};")
            operands[output] = CExpression(f"{output}_{index}")
    (result,) = operands.values()
    body = "\n".join(lines)
    unused = "".join(f"    (void){operand};\n" for operand in operation.inputs if operand not in _words(body))
    return f"static int64_t {name}({parameters})\n{{\n{unused}{body}\n    return {result.text};\n}}\n"


def _words(text: str) -> set[str]:
    return set("".join(c if c.isalnum() or c == "_" else " " for c in text).split())
