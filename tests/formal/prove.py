"""Bounded search for a counterexample, and proof for all time by induction with invariants that are found, not written.

The invariants are found as Houdini does (Flanagan and Leino, FME 2001): of many candidates, those that the initial state or one step
from a state in which all hold can break are dropped until none can; what is left is inductive.
"""

from __future__ import annotations

from dataclasses import dataclass

import z3
from formal.harness import CASES, CLAIM, GUARD, SHADOW, Harness
from formal.model import Model, build

_SURPLUS = 8  # bits by which a shadow, which never wraps, may be wider than its register
_QUESTION_SECONDS = 300  # after which a question about a pipeline counts as not answered
_PADDING = 96  # bits by which a register may be wider than a value that it holds
_SMALL = 3  # bits of a register whose values are worth telling apart, as those of a state machine


@dataclass(frozen=True, kw_only=True)
class Counterexample:
    """A run from reset (or, for an induction step, from anywhere) that breaks an assertion: one line per cycle."""

    assertion: str
    cycles: int
    trace: str

    def __str__(self) -> str:
        return f"{self.assertion}: broken in cycle {self.cycles}\n{self.trace}"


def _value(expression: z3.ExprRef) -> str:
    return hex(expression.as_long()) if z3.is_bv_value(expression) else str(expression)


def _explain(model: Model, states: list[z3.ExprRef], found: z3.ModelRef) -> Counterexample:
    lines = []
    for step, state in enumerate(states):
        shown = {name: _value(found.eval(model.at(wire, state), model_completion=True)) for name, wire in model.wires.items() if "$" not in name}
        lines.append(f"cycle {step}: " + " ".join(f"{name}={value}" for name, value in shown.items()))
    broken = [name for name, holds in model.assertions.items() if z3.is_false(found.eval(model.at(holds, states[-1]), model_completion=True))]
    return Counterexample(assertion=", ".join(broken), cycles=len(states) - 1, trace="\n".join(lines))


def search(model: Model, cycles: int) -> Counterexample | None:
    """The shortest run of at most `cycles` cycles from reset that breaks an assertion."""
    states = model.states(cycles)
    context = [model.at(model.initial, states[0])]
    holds = z3.And(*model.assertions.values())
    for step, state in enumerate(states):
        if step:
            context.append(model.at(model.transition, states[step - 1], state))
        context.append(model.at(model.assumption, state))
        solver = _solver()
        solver.add(*context, z3.Not(model.at(holds, state)))
        answer = solver.check()
        assert answer != z3.unknown, solver.reason_unknown()
        if answer == z3.sat:
            return _explain(model, states[: step + 1], solver.model())
    solver = _solver()
    solver.add(*context)
    assert solver.check() == z3.sat, "the assumptions contradict each other: nothing was proven"
    return None


def _equalities(register: z3.BitVecRef, shadow: z3.BitVecRef) -> dict[str, z3.BoolRef]:
    """How a register can hold a value: at its low end with zeros above, at its low end, at its high end; or the value's low bits."""
    width, extra = shadow.size(), register.size() - shadow.size()
    if width <= _SMALL < register.size() or extra < -_SURPLUS or extra > _PADDING:
        return {}
    if extra <= 0:
        return {"=": register == z3.Extract(register.size() - 1, 0, shadow)}
    return {
        "=": register == z3.ZeroExt(extra, shadow),
        "begins with": z3.Extract(width - 1, 0, register) == shadow,
        "ends with": z3.Extract(width + extra - 1, extra, register) == shadow,
    }


def _bits(expression: z3.ExprRef) -> z3.BitVecRef:
    return z3.If(expression, z3.BitVecVal(1, 1), z3.BitVecVal(0, 1)) if z3.is_bool(expression) else expression


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A formula over one state; each of those that `implied_by` names says all that this one says."""

    body: z3.BoolRef
    implied_by: tuple[str, ...] = ()


def candidates(model: Model, states: bool = True) -> dict[str, Candidate]:
    """[guard or "register has this value" implies] register equals shadow, or claim, or not claim. Without `states`, only the
    values of state machines are guards: where small registers are counters and not states, that is much less to decide."""
    inside = {name: _bits(register) for name, register in model.registers.items() if name.startswith("dut.")}
    named = {prefix: {n.removeprefix(prefix): _bits(w) for n, w in model.wires.items() if n.startswith(prefix)} for prefix in (SHADOW, GUARD, CLAIM)}
    values = {f"{n} = {v}": r == v for n, r in inside.items() if r.size() <= _SMALL for v in range(1 << r.size())}
    guards = {n: body for n, body in values.items() if states or "fsm_state" in n} | {name: guard == 1 for name, guard in named[GUARD].items()}
    bodies: dict[str, z3.BoolRef] = {}
    for register_name, register in inside.items():
        for shadow_name, shadow in named[SHADOW].items():
            bodies |= {f"{register_name} {how} {shadow_name}": body for how, body in _equalities(register, shadow).items()}
    for name, claim in named[CLAIM].items():
        bodies |= {name: claim == 1, f"not {name}": claim == 0}
    found = {name: Candidate(body=body) for name, body in bodies.items()} | {f"never {name}": Candidate(body=z3.Not(guard)) for name, guard in guards.items()}
    for guard_name, guard in guards.items():
        for name, body in (bodies if guard_name in values or not states else bodies | values).items():
            found[f"{guard_name} -> {name}"] = Candidate(body=z3.Implies(guard, body), implied_by=(name, f"never {guard_name}"))
    return found


def invariants(model: Model, states: bool = True) -> dict[str, z3.BoolRef]:
    """The largest inductive set of candidates; the assertions are taken to hold one cycle earlier."""
    alive = candidates(model, states)
    now, then = model.states(2)
    _drop_broken(model, [model.at(model.initial, now), model.at(model.assumption, now)], alive, now)
    step = [model.at(model.assumption, now), model.at(model.transition, now, then), model.at(model.assumption, then)]
    step += [model.at(holds, now) for holds in model.assertions.values()]
    while _drop_broken(model, step, alive, then, before=now):
        pass
    return {name: alive[name].body for name in _strongest(alive)}


def _strongest(alive: dict[str, Candidate]) -> list[str]:
    return [name for name, candidate in alive.items() if not any(other in alive for other in candidate.implied_by)]


def _solver() -> z3.Solver:
    """Replaces equals by equals before it goes down to bits, which incremental solvers do not."""
    return z3.Then("simplify", "propagate-values", "solve-eqs", "simplify", "bit-blast", "sat").solver()


def _drop_broken(model: Model, context: list[z3.BoolRef], alive: dict[str, Candidate], state: z3.ExprRef, before: z3.ExprRef | None = None) -> bool:
    """Ask once for each of the strongest candidates; returns whether any was dropped."""
    size, asked = len(alive), set[str]()
    after = {name: model.at(c.body, state) for name, c in alive.items()}
    now = {name: model.at(c.body, before) for name, c in alive.items()} if before is not None else {}
    while waiting := [name for name in _strongest(alive) if name not in asked]:
        solver = _solver()
        solver.add(*context, *(now[name] for name in _strongest(alive) if now), z3.Not(after[waiting[0]]))
        answer = solver.check()
        assert answer != z3.unknown, solver.reason_unknown()
        asked.add(waiting[0])
        if answer == z3.sat:
            found = solver.model()
            for name in [name for name in alive if z3.is_false(found.eval(after[name], model_completion=True))]:
                del alive[name]
    return len(alive) < size


@dataclass(frozen=True, kw_only=True)
class Proof:
    """`failure` is None where the assertions hold in every reachable state; `invariants` are what the induction stands on."""

    invariants: tuple[str, ...]
    failure: Counterexample | None


def induct(model: Model, *, depth: int = 1, states: bool = True) -> Proof:
    """Do the assertions hold in every cycle, whatever the inputs? k-induction with k = `depth` on top of the invariants.

    The base case is a search from reset over `depth` cycles more than the step needs.
    """
    base = search(model, depth + 2)
    if base:
        return Proof(invariants=(), failure=base)
    found = invariants(model, states)
    run = model.states(depth + 1)
    solver = _solver()
    for step, state in enumerate(run):
        solver.add(model.at(model.assumption, state), *(model.at(body, state) for body in found.values()))
        if step:
            solver.add(model.at(model.transition, run[step - 1], state))
        if step < depth:
            solver.add(*(model.at(holds, state) for holds in model.assertions.values()))
    solver.add(z3.Not(z3.And(*(model.at(holds, run[-1]) for holds in model.assertions.values()))))
    answer = solver.check()
    assert answer != z3.unknown, solver.reason_unknown()
    return Proof(invariants=tuple(sorted(found)), failure=None if answer == z3.unsat else _explain(model, run, solver.model()))


def prove(harness: Harness, *, depth: int = 1, states: bool = True) -> Proof:
    """Prove for all time; fails with the counterexample."""
    proof = induct(build(harness.rtlil()), depth=depth, states=states)
    assert proof.failure is None, f"not proven: {proof.failure}\ninvariants: {proof.invariants}"
    return proof


def _products(*expressions: z3.ExprRef) -> list[z3.ExprRef]:
    """The products of two unknowns in the expressions."""
    found, seen, waiting = [], set[int](), list(expressions)
    while waiting:
        term = waiting.pop()
        if term.get_id() not in seen:
            seen.add(term.get_id())
            waiting += term.children()
            if z3.is_app_of(term, z3.Z3_OP_BMUL) and not any(z3.is_bv_value(factor) for factor in term.children()):
                found.append(term)
    return found


def search_pipeline(model: Model, latency: int) -> Counterexample | None:
    """A run that breaks what depends on the last `latency` cycles only: from any state at all, reachable or not, one question per case.

    A product of two unknowns is one more unknown in each cycle, the same one wherever block and definition multiply alike: what holds
    of any number holds of the product. So None is a proof; a run may be impossible where the two multiply differently.
    """
    assertion = z3.And(*model.assertions.values())
    products = _products(model.transition, assertion)
    states = model.states(latency + 1)

    def at(expression: z3.ExprRef, step: int) -> z3.ExprRef:
        unknown = z3.substitute(expression, *((p, z3.BitVec(f"product {number}@{step}", p.size())) for number, p in enumerate(products)))
        return model.at(unknown, states[step], states[step + 1] if step < latency else None)

    context = [at(model.transition, step) for step in range(latency)] + [at(model.assumption, step) for step in range(latency + 1)]
    context.append(z3.Not(at(assertion, latency)))
    for case in (_bits(wire) for name, wire in model.wires.items() if name.startswith(CASES)):
        for value in range(1 << case.size()):
            solver = _solver()
            solver.set("timeout", 1000 * _QUESTION_SECONDS)
            solver.add(*context, at(case, 0) == value)
            answer = solver.check()
            assert answer != z3.unknown, solver.reason_unknown()
            if answer == z3.sat:
                return _explain(model, states, solver.model())
    return search(model, latency)


def prove_pipeline(harness: Harness, *, latency: int) -> None:
    """Prove for all time; fails with the counterexample."""
    found = search_pipeline(build(harness.rtlil()), latency)
    assert found is None, f"not proven: {found}"


def refute_pipeline(harness: Harness, *, latency: int) -> Counterexample:
    """The planted fault must show."""
    found = search_pipeline(build(harness.rtlil()), latency)
    assert found is not None, "the planted fault was not found"
    return found


def check(harness: Harness, *, cycles: int) -> None:
    """Every run of `cycles` cycles from reset holds every assertion."""
    found = search(build(harness.rtlil()), cycles)
    assert found is None, str(found)


def refute(harness: Harness, *, cycles: int) -> Counterexample:
    """The planted fault must show within `cycles` cycles from reset."""
    found = search(build(harness.rtlil()), cycles)
    assert found is not None, f"the planted fault was not found in {cycles} cycles"
    return found
