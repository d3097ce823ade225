"""Golden model = program on the instruction-level simulator, on random networks and hardware, in any order that tokens allow."""

import contextlib
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from program_runner import random_codes, run_program
from random_graphs import random_graph, with_wide_weights
from schedule_support import with_all_outputs

from hwgen.arith import Rounding
from hwgen.config import PRESETS, with_array
from hwgen.errors import CapacityError, ConfigError, HwgenError
from hwgen.isa.fields import Mode
from hwgen.isa.instructions import Conv
from hwgen.isa.machine import ProgramError
from hwgen.ops.golden import golden_codes
from hwgen.schedule.compile import compile_network

ARRAYS = ["4x4", "8x8", "16x16", "8x16", "16x8", "32x32", "1x4", "2x8", "64x16", "16x64"]


def _drawn(array, multiplier_bits, rounding, depth, words, fraction):
    """Hardware with `words` in its activation buffer and a `fraction` of the usual weights."""
    config = replace(with_array(PRESETS["16x16"], array), multiplier_bits=multiplier_bits, rounding=rounding, accumulator_depth=depth)
    return replace(config, activation_words=words or config.activation_words, weight_words=max(16, config.weight_words // fraction))


def _kinds(network):
    """Which ways of the scheduler a program went."""
    convs = [command for command in network.commands if isinstance(command, Conv)]
    views = [[part.view for part in layer.parts] for layer in network.layers]
    first = [part.view for part in network.layers[0].parts] if network.layers else []
    return {
        "tiled": any(len(set(own)) > 1 for own in views),
        "arena": network.arena_bytes > 0,
        "resident": network.resident is not None,
        "keep": any(c.keep for c in convs),
        "residual in tiles": any(c.residual for c in convs) and any(len(set(own)) > 1 for own in views),
        "chunks": len(first) > 1 and len(set(first)) == 1,
        "on chip": not network.arena_bytes and all(len(set(own)) == 1 for own in views),
    }


def test_golden_equals_program_simulation():
    """Small buffers, all interleavings, both programs; and every way of the scheduler is really taken."""
    counts = Counter()

    @settings(max_examples=200, deadline=None)
    @given(
        seed=st.integers(0, 10**6),
        hardware=st.builds(
            _drawn,
            array=st.sampled_from(ARRAYS),
            multiplier_bits=st.sampled_from([16, 16, 0, 8, 12, 24]),
            rounding=st.sampled_from(Rounding),
            depth=st.sampled_from([8, 16, 128]),
            words=st.sampled_from([64, 128, 256, 512, 1024, None]),
            fraction=st.sampled_from([1, 8, 64]),
        ),
        interleaving=st.one_of(st.none(), st.integers(0, 100)),
        all_outputs=st.sampled_from([False, False, True]),
    )
    def check(seed, hardware, interleaving, all_outputs):
        new = seed % 2 == 1
        hardware = replace(hardware, activation_tables=2 if new else 0, output_gaps=new)
        graph = random_graph(seed, multiplier_bits=hardware.multiplier_bits, rounding=hardware.rounding, tables=new, moves=new, gaps=new)
        try:
            network = compile_network(with_all_outputs(graph) if all_outputs else graph, hardware)
        except CapacityError as error:  # small buffers are part of the draw; the message must say which and by how much
            assert " too few" in str(error)
            return
        counts.update(kind for kind, true in _kinds(network).items() if true)
        assert run_program(network, random_codes(network, seed), seed=interleaving) == []

    ways = _kinds(compile_network(random_graph(1), PRESETS["8x8"]))
    for _ in range(5):  # a rare way may be missing among the first draws
        check()
        if min(counts[way] for way in ways) >= 3:
            return
    raise AssertionError(f"hardly any network is like that: {counts}")


def test_without_a_token_some_interleaving_is_wrong_or_stuck():
    """The test above can fail: programs with one wait removed do not survive all interleavings."""
    network = compile_network(random_graph(11, nodes=6), replace(PRESETS["16x16"], weight_words=512))
    waiting = [k for k, c in enumerate(network.commands) if c.wait_load]
    broken = list(network.commands)
    broken[waiting[0]] = replace(broken[waiting[0]], wait_load=0)
    bad = replace(network, cold=replace(network.cold, commands=tuple(broken)), resident=None)
    outcomes = []
    for seed in range(20):
        try:
            outcomes.append(bool(run_program(bad, random_codes(bad, 1), seed=seed)))
        except (HwgenError, AssertionError):
            outcomes.append(True)
    assert any(outcomes)


def test_compiling_twice_gives_the_same_bytes():
    graph = random_graph(5)
    first, second = (compile_network(graph, PRESETS["8x8"]) for _ in range(2))
    assert (first.program, first.weights) == (second.program, second.weights)


@pytest.mark.parametrize("weight_words", [4096, 64])
def test_progress_goes_up_to_all(weight_words):
    percents = []
    network = compile_network(random_graph(11, nodes=6), replace(PRESETS["16x16"], weight_words=weight_words), progress=percents.append)
    assert (network.resident is not None) == (weight_words == 4096)
    assert percents == sorted(percents) and percents[-1] == 100 and len(percents) >= 4


def test_activation_buffer_too_small_says_by_how_much():
    config = replace(PRESETS["4x4"], activation_words=64)
    with pytest.raises(CapacityError, match=r"activation buffer: layer 'n\d+' needs at least \d+ words .* \d+ words too few; set activation_words to \d+"):
        for seed in range(20):
            compile_network(random_graph(seed), config)


def test_weight_buffer_too_small_says_by_how_much():
    config = replace(PRESETS["32x32"], weight_words=16)
    with pytest.raises(CapacityError, match=r"weight buffer: layer 'n\d+' needs \d+ words .* \d+ words too few; set weight_words"):
        for seed in range(30):
            compile_network(random_graph(seed), config)


def test_accumulator_too_narrow_names_the_layer():
    config = replace(PRESETS["16x16"], accumulator_bits=20)
    with pytest.raises(CapacityError, match=r"accumulator: layer 'n\d+' may reach .* needs \d+ bits"):
        for seed in range(30):
            compile_network(random_graph(seed), config)


def test_other_arithmetic_than_the_hardware_is_refused():
    with pytest.raises(ConfigError, match="quantized for multiplier_bits 12 .* has 16"):
        compile_network(random_graph(1, multiplier_bits=12), PRESETS["16x16"])


def test_every_error_is_a_hwgen_error():
    assert issubclass(ProgramError, HwgenError)


@pytest.mark.parametrize("kind", ["Lookup", "gaps"])
def test_what_the_hardware_has_not_runs_on_the_processor(kind: str) -> None:
    """Activation tables; gaps between the columns of a result, for enlargements and transposed convolutions."""
    counts: Counter[str] = Counter()
    for seed in range(60):
        graph = random_graph(seed, tables=kind == "Lookup", gaps=kind == "gaps")
        network = compile_network(graph, PRESETS["8x8"])
        found = Counter(type(kernel.node.op).__name__ for group in network.kernels for kernel in group)
        counts["kernels"] += found[kind] if kind == "Lookup" else found["Resize"]
        counts["transposed"] += sum(type(node.op).__name__ == "Conv" and node.op.spread[1] > 1 for node in graph.nodes)
        counts["moved"] += found["Move"]
        counts["programs"] += len(network.later)
        codes = random_codes(network, seed)
        assert run_program(network, codes, seed=seed) == []
        wanted, computed = golden_codes(graph, codes), golden_codes(network.graph, codes)
        assert all((wanted[output.value] == computed[output.value]).all() for output in graph.outputs)
    assert counts["kernels"] > 5, counts
    assert counts["programs"] >= 1 and counts["moved"] == counts["transposed"], counts
    assert counts["moved"] > 10 or kind == "Lookup"


def test_weights_of_nine_bits():
    """As sums of int8 weights, in every mode of the array, also where one int8 part does not fit the weight buffer at once; refused where
    two tiles share a word."""
    counts, odd = Counter(), "weights that need 9 bits .* set out_lanes to 16"
    for seed in range(120):
        hardware = _drawn(ARRAYS[seed % 3], 16, Rounding.HALF_EVEN, [8, 128][seed % 2], [256, 1024, None][seed % 5 % 3], [1, 64][seed % 4 % 2])
        graph = with_wide_weights(random_graph(seed), seed)
        with contextlib.suppress(CapacityError):
            network = compile_network(graph, hardware)
            assert run_program(network, random_codes(network, seed), seed=seed) == []
            counts.update((c.mode, c.residual) for c in network.commands if isinstance(c, Conv) and c.resume)
        if seed > 20 and len({mode for mode, _ in counts}) == 3 and any(residual for _, residual in counts):
            break
    assert {mode for mode, _ in counts} == {Mode.DENSE, Mode.DEPTHWISE, Mode.PACKED} and any(residual for _, residual in counts)
    with pytest.raises(CapacityError, match=odd):
        compile_network(with_wide_weights(random_graph(1)), replace(with_array(PRESETS["16x16"], "8x16")))
