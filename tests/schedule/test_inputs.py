"""Which layout an input gets, and that it needs as few passes as it says."""

from dataclasses import replace

import numpy as np
import pytest
from program_runner import random_codes, run_program

from hwgen.config import PRESETS, HardwareConfig
from hwgen.ir.graph import Arithmetic, Graph, GraphInput, GraphOutput, Node, Value
from hwgen.ir.types import Quantization, TensorType
from hwgen.isa.fields import Mode
from hwgen.isa.instructions import Conv as ConvCommand
from hwgen.layout import PackedLayout
from hwgen.ops.base import Window
from hwgen.ops.conv import Conv
from hwgen.schedule.compile import compile_network
from hwgen.schedule.inputs import packed_layout

KERNEL3 = Window(kernel=(3, 3), pads=(1, 1, 1, 1))


def graph_of(kind: TensorType, *readers: tuple[Window, int], group: int = 1) -> Graph:
    """One input, read by a convolution for each (window, output channels)."""
    rng = np.random.default_rng(len(readers))
    quantization = Quantization(scale=np.float32(0.5), zero_point=3)
    values, nodes = {"x": Value(name="x", type=kind, quantization=quantization)}, []
    for k, (window, channels) in enumerate(readers):
        weight = rng.integers(-128, 128, (channels, *window.kernel, kind.channels // group)).astype(np.int8)
        bias = rng.integers(-999, 999, channels).astype(np.int32)
        op = Conv(weight=weight, bias=bias, window=window, group=group, weight_scale=np.full(channels, 0.01, np.float32))
        values[f"y{k}"] = Value(name=f"y{k}", type=op.infer(kind), quantization=quantization)
        nodes.append(Node(name=f"n{k}", op=op, inputs=("x",), output=f"y{k}"))
    outputs = tuple(GraphOutput(name=node.output, value=node.output, shape=(-1, *values[node.output].type.shape)) for node in nodes)
    inputs = (GraphInput(name="x", value="x", shape=(-1, *kind.shape), dtype="float32"),)
    return Graph(name="g", inputs=inputs, outputs=outputs, nodes=tuple(nodes), values=values, arithmetic=Arithmetic())


def layout_of(graph: Graph, config: HardwareConfig = PRESETS["16x16"]) -> str:
    layout = packed_layout(graph, "x", config)
    return "blocked" if layout is None else "folded" if layout.fold else "packed"


@pytest.mark.parametrize(
    ("height", "width", "channels", "window", "kind", "passes"),
    [
        (32, 32, 3, KERNEL3, "folded", 2),
        (96, 96, 3, replace(KERNEL3, strides=(2, 2)), "folded", 2),
        (227, 227, 3, Window(kernel=(7, 7), strides=(2, 2)), "folded", 10),
        (49, 10, 1, Window(kernel=(10, 4), strides=(2, 2), pads=(4, 1, 5, 1)), "folded", 3),
        (128, 1, 2, Window(kernel=(9, 1), strides=(2, 1), pads=(4, 0, 4, 0)), "folded", 2),
        (7, 7, 3, Window(kernel=(7, 7)), "folded", 10),  # a fully connected layer behind Flatten
        (16, 16, 5, Window(kernel=(3, 3)), "packed", 3),  # 45 bytes: 3 passes either way, and fewer bytes
        (16, 16, 16, KERNEL3, "blocked", 9),
        (16, 16, 3, Window(kernel=(1, 1)), "packed", 1),  # as many passes, fewer bytes
        (16, 16, 3, Window(kernel=(1, 1), strides=(2, 2)), "folded", 1),  # only every second row is loaded
    ],
)
def test_the_layout_that_takes_the_fewest_cycles(height, width, channels, window, kind, passes):
    config = replace(PRESETS["16x16"], activation_words=1 << 17)
    graph = graph_of(TensorType(height, width, channels), (window, 20))
    assert layout_of(graph, config) == kind
    network = compile_network(graph, config)
    commands = [command for command in network.commands if isinstance(command, ConvCommand)]  # several: the first rows may be there before the last
    assert {command.passes for command in commands} == {passes}
    assert {command.mode == Mode.PACKED for command in commands} == {kind != "blocked"}
    assert isinstance(network.inputs[0].layout, PackedLayout) == (kind != "blocked")
    if height < 100:
        assert run_program(network, random_codes(network, 1)) == []


def test_a_channel_by_channel_convolution_reads_blocks_where_its_window_slides():
    """One pass in depthwise mode, at least two of the full array."""
    kind = TensorType(16, 16, 8)
    assert layout_of(graph_of(kind, (KERNEL3, 8), group=8)) == "blocked"
    assert layout_of(graph_of(kind, (KERNEL3, 8))) == "folded"


def test_convolutions_of_one_geometry_share_a_folded_image():
    graph = graph_of(TensorType(16, 16, 3), (KERNEL3, 8), (Window(kernel=(3, 5), pads=(1, 4, 1, 0)), 40))
    assert layout_of(graph) == "folded"
    network = compile_network(graph, PRESETS["16x16"])
    assert run_program(network, random_codes(network, 2)) == []


OTHER_ROWS = [Window(kernel=(2, 3), pads=(0, 1, 1, 1)), replace(KERNEL3, dilations=(2, 1), pads=(2, 1, 2, 1)), replace(KERNEL3, strides=(2, 1))]


@pytest.mark.parametrize("other", OTHER_ROWS)
def test_convolutions_that_read_other_rows_do_not(other):
    graph = graph_of(TensorType(16, 16, 3), (KERNEL3, 8), (other, 40))
    assert layout_of(graph) == "packed"
    network = compile_network(graph, PRESETS["16x16"])
    assert run_program(network, random_codes(network, 2)) == []


def test_a_folded_image_takes_at_most_half_of_the_buffer_unless_it_comes_in_slices_anyway():
    graph = graph_of(TensorType(64, 64, 3), (replace(KERNEL3, strides=(2, 2)), 16))  # words: 38 x 32 folded, 13 x 64 not, 1024 of results
    layouts = [layout_of(graph, replace(PRESETS["16x16"], activation_words=words)) for words in (4096, 2048, 1024)]
    assert layouts == ["folded", "packed", "folded"]


def test_rows_wider_than_the_origin_field_are_not_folded():
    graph = graph_of(TensorType(16, 4000, 3), (KERNEL3, 16))
    config = replace(PRESETS["16x16"], activation_words=1 << 18)
    assert layout_of(graph, config) == "packed"
    assert layout_of(graph_of(TensorType(4, 11000, 3), (KERNEL3, 16)), config) == "blocked"


def test_a_kernel_of_more_words_than_the_steps_field_counts_is_not_folded():
    """300 x 9 x 2 bytes are 338 words of 16; 300 rows of 2 words are 255 at most, so that this one is blocked and refused when encoded."""
    long, config = TensorType(300, 12, 2), replace(PRESETS["16x16"], activation_words=1 << 17)
    assert layout_of(graph_of(long, (Window(kernel=(200, 9)), 16)), config) == "folded"
    assert layout_of(graph_of(long, (Window(kernel=(250, 9)), 16)), config) == "packed"


def test_an_input_that_is_also_an_output_stays_blocked():
    graph = graph_of(TensorType(16, 16, 3), (KERNEL3, 16))
    assert layout_of(replace(graph, outputs=(*graph.outputs, GraphOutput(name="x", value="x", shape=(-1, 16, 16, 3))))) == "blocked"
