"""Finished programs: everything that must be in order is, by tokens alone; weights are loaded once, and stay where they fit."""

from collections import Counter, deque
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from program_runner import random_codes, run_program
from random_graphs import Builder, random_graph, with_few_bits
from schedule_support import memory_bytes, small, with_all_outputs

from hwgen.config import PRESETS, SIDES
from hwgen.errors import CapacityError
from hwgen.ir.types import TensorType
from hwgen.isa.fields import Buffer, Engine, Region
from hwgen.isa.instructions import Conv, End, Load, Store
from hwgen.layout import packed_format
from hwgen.ops.base import Window
from hwgen.ops.conv import Conv as ConvOp
from hwgen.packing import WeightFormat
from hwgen.schedule.compile import compile_network
from hwgen.schedule.footprint import buffer_words, conv_reads, conv_writes, sides
from hwgen.schedule.memory import Home
from hwgen.schedule.stream import Streamer, Weights


@cache
def _programs():
    """Networks that fit, in tiles, with weights that stay or do not."""
    found = []
    for seed in range(40):
        array = ("4x4", "8x8", "4x16", "16x4")[seed % 4]
        config = small(array, activation_words=1 << 7 + seed % 3, weight_words=1 << 8 + seed % 4, activation_tables=seed % 2, weight_decoder=seed % 5 < 3)
        try:
            graph = random_graph(seed, nodes=5, tables=seed % 2 == 1)
            graph = with_few_bits(graph, seed) if config.weight_decoder else graph
            found.append(compile_network(with_all_outputs(graph) if seed % 3 == 0 else graph, config))
        except CapacityError:
            continue
    return found


def _accesses(command, config):
    """(memory, words or bytes, writes) of a command, ports of the activation buffer included."""
    if isinstance(command, Conv):
        sets = command.output_tiles * command.passes
        weights = (1 if command.weights_held else sets) * config.weight_load_cycles if not command.reduce else 0
        parameters = (1 if command.parameters_held else command.output_tiles) * config.weight_load_cycles
        yield Buffer.WEIGHT, range(command.weight_address, command.weight_address + weights), False
        yield Buffer.PARAMETER, range(command.parameter_address, command.parameter_address + parameters), False
        if command.table:
            yield Buffer.TABLE, range(command.table_address, command.table_address + 64), False
        reads, writes = conv_reads(command, config), conv_writes(command, config)
    elif isinstance(command, Load):
        word_bytes = {Buffer.ACTIVATION: config.in_lanes, Buffer.WEIGHT: config.weight_word_bytes, Buffer.PARAMETER: config.parameter_word_bytes}
        word_bytes[Buffer.TABLE] = config.bus_bytes
        touched = buffer_words(command, word_bytes[Buffer(command.destination)])
        yield from ((("region", command.region), range(*interval), False) for interval in memory_bytes(command))
        if command.destination != Buffer.ACTIVATION:
            yield from ((Buffer(command.destination), range(*interval), True) for interval in touched)
            return
        reads, writes = (), touched
    else:
        yield from ((("region", command.region), range(*interval), True) for interval in memory_bytes(command))
        reads, writes = buffer_words(command, config.in_lanes), ()
    yield from ((Buffer.ACTIVATION, range(*interval), False) for interval in reads)
    yield from ((Buffer.ACTIVATION, range(*interval), True) for interval in writes)
    side_words = config.activation_words // SIDES
    yield from (((port, side), range(1), True) for port, found in (("read", reads), ("write", writes)) for side in sides(found, side_words))


def _conflict(a, b):
    return any(
        memory == other and (writes or also) and max(words.start, others.start) < min(words.stop, others.stop)
        for memory, words, writes in a
        for other, others, also in b
    )


def _done_before(commands):
    """For each command the set (as bits) of commands that are surely done when it begins: by its engine's order and by tokens."""
    given = {(a, b): deque() for a in Engine for b in Engine}
    engines, found, queues = {}, {}, {engine: deque() for engine in Engine}
    for index, command in enumerate(commands):
        queues[command.engine].append(index)
    while any(queues.values()):
        engine = next(e for e in Engine if queues[e] and all(given[giver, e] for giver in commands[queues[e][0]].waits))
        index = queues[engine].popleft()
        before = engines.get(engine, 0)
        for giver in commands[index].waits:
            before |= given[giver, engine].popleft()
        found[index] = before
        engines[engine] = before | 1 << index
        for taker in commands[index].signals:
            given[engine, taker].append(engines[engine])
    assert not any(given.values())  # tokens that nobody takes
    return found


def test_tokens_order_every_pair_of_commands_that_touch_the_same_words():
    pairs, kinds = 0, Counter()
    for network in _programs():
        for routine in network.routines:
            commands = [c for c in routine.commands if not isinstance(c, End)]
            accesses = [list(_accesses(c, network.config)) for c in commands]
            before = _done_before(commands)
            for k, command in enumerate(commands):
                for j in range(k):
                    if commands[j].engine is not command.engine and _conflict(accesses[j], accesses[k]):
                        assert before[k] >> j & 1 or before[j] >> k & 1, (j, k)
                        pairs += 1
                        kinds[tuple(sorted((commands[j].engine, command.engine)))] += 1
    assert pairs > 500 and len(kinds) == 3


def _loaded_twice(loads, buffer, config):
    """Whether some word of the buffer is loaded twice."""
    word_bytes = {Buffer.WEIGHT: config.weight_word_bytes, Buffer.PARAMETER: config.parameter_word_bytes, Buffer.TABLE: config.bus_bytes}[buffer]
    times = Counter(word for c in loads if c.destination == buffer for interval in buffer_words(c, word_bytes) for word in range(*interval))
    return max(times.values(), default=0) > 1


def test_weights_are_loaded_once_where_they_stay():
    resident = reloading = 0
    for network in _programs():
        loads = [c for c in network.cold.commands if isinstance(c, Load) and c.region == Region.WEIGHTS]
        if network.resident is None:
            reloading += 1
            assert network.resident_entry is None
            assert any(_loaded_twice(loads, buffer, network.config) for buffer in (Buffer.WEIGHT, Buffer.PARAMETER, Buffer.TABLE))
            continue
        resident += 1
        assert not any(_loaded_twice(loads, buffer, network.config) for buffer in (Buffer.WEIGHT, Buffer.PARAMETER, Buffer.TABLE))
        assert len({(c.destination, c.memory_offset) for c in loads}) == len(loads)
        later = [c for c in network.resident.commands if isinstance(c, Load)]
        assert all(c.destination == Buffer.ACTIVATION and c.region != Region.WEIGHTS for c in later)
        convs, again = ([(c.weight_address, c.parameter_address) for c in r.commands if isinstance(c, Conv)] for r in (network.cold, network.resident))
        assert convs == again
        assert network.predict(1, resident=True).total_cycles <= network.predict(1).total_cycles
    assert resident > 10 and reloading > 3


def test_equal_contents_lie_in_memory_once_and_on_a_bus_word():
    weights = Weights(small("8x8", bus_bits=64))
    assert [weights.offset(data, data) for data in (b"abc", b"defghijkl", b"abc", b"m")] == [0, 8, 0, 24]
    assert bytes(weights.image) == b"abc" + bytes(5) + b"defghijkl" + bytes(7) + b"m" + bytes(7)


def test_contents_are_resident_until_one_must_go():
    weights = Weights(small("8x8", weight_words=16))
    weights.rings[Buffer.WEIGHT].place(10, "a")
    assert weights.resident
    weights.rings[Buffer.WEIGHT].place(10, "b")
    assert not weights.resident


def _home(region, offset=0, rows=4):
    """Rows of one word."""
    return Home(region=region, offset=offset, row_bytes=8, block_bytes=8 * rows, blocks=1)


def _loads(streamer, words):
    for first in words:
        streamer.load(Load(region=Region.INPUT, buffer_address=first, row_bytes=8), _home(Region.INPUT), (0, 1))


def test_a_store_follows_the_load_of_its_words_and_no_other():
    """Words in different sides: the ports are not in common either."""
    config = small("8x8", activation_words=64)
    streamer = Streamer(config, Weights(config))
    _loads(streamer, (0, 40))
    streamer.store(Store(region=Region.OUTPUT, buffer_address=0, row_bytes=8), _home(Region.OUTPUT), (0, 1))
    streamer.store(Store(region=Region.OUTPUT, memory_offset=8, buffer_address=41, row_bytes=8), _home(Region.OUTPUT), (1, 2))
    commands = streamer.finish().commands
    assert [c.wait_load for c in commands if isinstance(c, Store)] == [1, 0]
    assert [c.signal_store for c in commands if isinstance(c, Load)] == [1, 0]
    assert isinstance(commands[-1], End)


def test_a_load_waits_for_the_store_of_what_it_reads_or_overwrites():
    config = small("8x8", activation_words=64)
    for region, row, address, waits in ((Region.ARENA, 1, 3, 1), (Region.ARENA, 2, 3, 0), (Region.INPUT, 1, 3, 0), (Region.INPUT, 1, 1, 1)):
        streamer = Streamer(config, Weights(config))
        streamer.store(Store(region=Region.ARENA, memory_offset=8, buffer_address=1, row_bytes=8), _home(Region.ARENA), (1, 2))
        streamer.load(Load(region=region, memory_offset=8 * row, buffer_address=address, row_bytes=8), _home(region), (row, row + 1))
        assert [c.wait_store for c in streamer.finish().commands if isinstance(c, Load)] == [waits]


def test_the_first_store_to_used_memory_follows_the_loads_of_what_lay_there():
    """Another value takes the bytes: 16..40 after 0..32. Side 1 of the buffer, so that words and ports are not in common."""
    config = small("8x8", activation_words=64)
    for offset, waits in ((16, 1), (32, 0)):
        streamer = Streamer(config, Weights(config))
        streamer.store(Store(region=Region.ARENA, buffer_address=40, row_bytes=8), _home(Region.ARENA), (0, 1))
        streamer.load(Load(region=Region.ARENA, buffer_address=0, row_bytes=8), _home(Region.ARENA), (0, 1))
        streamer.store(Store(region=Region.ARENA, memory_offset=offset, buffer_address=41, row_bytes=8), _home(Region.ARENA, offset, 3), (0, 1))
        assert [c.wait_load for c in streamer.finish().commands if isinstance(c, Store)] == [0, waits]


def test_a_network_with_more_layers_than_tokens():
    """Three hundred layers whose weights could all be loaded while the first one runs."""
    builder = Builder(1)
    builder.values.clear()
    image = builder.input = builder.value(TensorType(24, 24, 8), builder.quantization())
    x = builder.conv(builder.conv(image, Window(kernel=(7, 7), pads=(3, 3, 3, 3)), 8, dense=True), Window(kernel=(7, 7), strides=(17, 17)), 8, dense=True)
    for _ in range(300):
        x = builder.conv(x, Window(kernel=(1, 1)), 8, dense=True)
    network = compile_network(builder.finish(x), replace(PRESETS["8x8"], weight_words=8192))
    assert run_program(network, random_codes(network, 1)) == []


def _one_layer(kind, inputs, outputs):
    """A fully connected layer with weights of one format."""
    builder = Builder(1)
    builder.values.clear()
    builder.input = builder.value(TensorType(1, 1, inputs), builder.quantization())
    graph = builder.finish(builder.conv(builder.input, Window(kernel=(1, 1)), outputs, dense=True))
    levels = np.array([level for level in range(kind.low, kind.high + 1) if level or kind is not WeightFormat.BINARY], np.int8)
    rng, (node,) = np.random.default_rng(3), [node for node in graph.nodes if isinstance(node.op, ConvOp)]
    weight = rng.choice(levels, node.op.weight.shape)
    weight.reshape(-1)[: len(levels)] = levels  # all of them occur
    return graph.with_nodes(tuple(replace(n, op=replace(n.op, weight=weight)) if n is node else n for n in graph.nodes))


@pytest.mark.parametrize("kind", WeightFormat)
@pytest.mark.parametrize(("inputs", "outputs", "lanes_left"), [(64, 40, False), (60, 40, True)])
def test_weights_take_as_many_bytes_as_their_values_ask_for(kind, inputs, outputs, lanes_left):
    """Rows without a channel cost nothing; lanes without one hold zeros, which binary has not."""
    stored = WeightFormat.TERNARY if lanes_left and kind is WeightFormat.BINARY else kind
    graph, found = _one_layer(kind, inputs, outputs), {}
    for decoder in (False, True):
        network = compile_network(graph, small("8x8", weight_decoder=decoder))
        loads = [c for c in network.commands if isinstance(c, Load) and c.destination == Buffer.WEIGHT]
        assert {load.format for load in loads} == {stored if decoder else WeightFormat.INT8}
        found[decoder] = sum(load.row_bytes for load in loads)
        assert network.weight_memory.formats == ((stored if decoder else WeightFormat.INT8),)
        assert network.weight_memory.stored_bytes == found[decoder]
        assert network.weight_memory.int8_bytes == found[False]
        assert run_program(network, random_codes(network, 2)) == []
    assert found[True] <= -(-found[False] // stored.digits) + 8 * len(loads)
    assert found[True] * stored.digits >= found[False]


def test_the_weights_of_layers_are_those_that_are_loaded():
    """Distinct images of the region, with parameters and tables nothing else is in it."""
    decoded = 0
    for network in _programs():
        images = {c.memory_offset: c for c in network.commands if isinstance(c, Load) and c.region == Region.WEIGHTS}
        weights = [load for load in images.values() if load.destination == Buffer.WEIGHT]
        memory = network.weight_memory
        assert memory.stored_bytes == sum(load.row_bytes for load in weights)
        assert set(memory.formats) == {load.format for load in weights}
        assert memory.stored_bytes == (memory.packed_bytes if network.config.weight_decoder else memory.int8_bytes)
        assert sum(load.row_bytes for load in images.values()) == len(network.weights)
        decoded += memory.packed_bytes < memory.int8_bytes
    assert decoded > 4


def test_an_image_that_would_reach_beyond_the_buffer_takes_a_wider_format():
    """16 words of a bus word each: ternary ones come in fives."""
    config = small("4x4", weight_words=16, weight_decoder=True)
    sets = np.zeros((4, 4, 4), np.int8)
    assert packed_format(sets, config) == (WeightFormat.INT2, 16)
    assert packed_format(sets[:3], config) == (WeightFormat.TERNARY, 15)
    assert packed_format(sets + 1, config) == (WeightFormat.BINARY, 16)
    assert packed_format(sets[:3] + 1, config) == (WeightFormat.BINARY, 16)
