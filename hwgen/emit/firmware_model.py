"""The network's description for C: hardware constants, tensors with their quantization and place in memory, layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hwgen.config import HardwareConfig
from hwgen.emit.firmware_host import outside_shape, work_half
from hwgen.emit.firmware_reference import Reference
from hwgen.emit.firmware_tables import float_literal, int_array
from hwgen.emit.names import unique_identifiers
from hwgen.ir.graph import Graph, GraphInput, GraphOutput
from hwgen.isa.latency import BURST_BEATS
from hwgen.layout import BlockedLayout, Layout, RowWindow
from hwgen.schedule.homes import HostTensor

CACHE_LINE_BYTES = 64  # what buffers that the device writes are aligned to where bursts ask for less
CONSTANTS = (
    *("out_lanes", "in_lanes", "activation_words", "weight_words", "parameter_words", "accumulator_depth", "accumulator_bits"),
    *("requantize_lanes", "multiplier_bits", "bus_bytes", "address_bits", "watchdog_bits"),
)


@dataclass(frozen=True, kw_only=True)
class Constant:
    name: str
    value: int


@dataclass(frozen=True, kw_only=True)
class ConfigView:
    prefix: str
    macro: str
    hardware_name: str
    config_sha256: str
    config_hash: str
    constants: tuple[Constant, ...]
    sizes: tuple[Constant, ...]
    buffer_alignment: int


@dataclass(frozen=True, kw_only=True)
class TensorView:
    """One input or output: as the model has it, quantized, and in its region."""

    kind: str
    index: int
    name: str
    identifier: str
    identifier_lower: str
    macro: str
    height: int
    width: int
    channels: int
    elements: int
    outside_shape: str
    outside_elements: int
    scale: str
    zero_point: int
    outside_offset: int
    offset: int
    size_bytes: int
    rows: int
    row_stride: int
    column_stride: int
    fold_rows: int
    fold_stride: int
    row_step: int
    row_dilation: int
    row_top: int
    offsets_name: str
    offsets_table: str
    fill: int
    is_input: bool


@dataclass(frozen=True, kw_only=True)
class LayerName:
    index: int
    name: str
    operator: str
    identifier: str


@dataclass(frozen=True, kw_only=True)
class ImageView:
    """What the image header says of program and weights besides their sizes."""

    program_crc: str
    weights_crc: str
    program_entry: int
    resident_entry: str
    watchdog_cycles: int
    phases: int = 1
    processor: bool = False


@dataclass(frozen=True, kw_only=True)
class ModelView:
    prefix: str
    macro: str
    model_name: str
    inputs: tuple[TensorView, ...]
    outputs: tuple[TensorView, ...]
    layers: tuple[LayerName, ...]
    image: ImageView
    host_work: int
    reference_sums: int
    reference_patch: int
    reference_values: int


def build_config(config: HardwareConfig, prefix: str, sizes: Mapping[str, int]) -> ConfigView:
    """The view of <prefix>_config.h; `sizes` in bytes by region."""
    return ConfigView(
        prefix=prefix,
        macro=prefix.upper(),
        hardware_name=config.name,
        config_sha256=config.hash(),
        config_hash=f"0x{config.short_hash:08x}",
        constants=tuple(Constant(name=name.upper(), value=getattr(config, name)) for name in CONSTANTS),
        sizes=tuple(Constant(name=f"{region.upper()}_BYTES", value=size) for region, size in sizes.items()),
        buffer_alignment=max(BURST_BEATS * config.bus_bytes, CACHE_LINE_BYTES),
    )


@dataclass(frozen=True, kw_only=True)
class Strides:
    """In bytes; `rows` says what each stored row holds of the image."""

    row: int
    column: int
    fold: int
    channels: tuple[int, ...]
    rows: RowWindow


def strides_of(layout: Layout) -> Strides:
    """Both layouts as one rule: row * g + column * x + fold * k + channels[c] for row k of what stored row g holds."""
    if isinstance(layout, BlockedLayout):
        block = layout.height * layout.width * layout.lanes
        channels = tuple(p // layout.lanes * block + p % layout.lanes for p in layout.positions)
        return Strides(row=layout.width * layout.lanes, column=layout.lanes, fold=0, channels=channels, rows=RowWindow(outputs=layout.height))
    return Strides(
        row=layout.row_words * layout.lanes,
        column=layout.column_bytes,
        fold=layout.channels,
        channels=tuple(layout.left_bytes + c for c in range(layout.channels)),
        rows=layout.row_window,
    )


def _tensor(kind: str, index: int, entry: GraphInput | GraphOutput, identifier: str, graph: Graph, place: HostTensor) -> TensorView:
    value = graph.values[entry.value]
    q, strides = value.quantized, strides_of(place.layout)
    shape = outside_shape(entry)
    elements = 1
    for size in shape:
        elements *= size
    offsets_name = f"{kind}{index}_channel_offsets"
    return TensorView(
        kind=kind,
        index=index,
        name=entry.name,
        identifier=identifier.upper(),
        identifier_lower=f"{kind}{index}",
        macro=f"{kind.upper()}{index}",
        height=value.type.height,
        width=value.type.width,
        channels=value.type.channels,
        elements=value.type.elements,
        outside_shape=" x ".join(map(str, shape)) or "scalar",
        outside_elements=elements,
        scale=float_literal(float(q.scale)),
        zero_point=q.zero_point,
        outside_offset=q.outside_offset,
        offset=place.offset,
        size_bytes=place.size_bytes,
        rows=strides.rows.outputs,
        row_stride=strides.row,
        column_stride=strides.column,
        fold_rows=strides.rows.kernel,
        fold_stride=strides.fold,
        row_step=strides.rows.stride,
        row_dilation=strides.rows.dilation,
        row_top=strides.rows.top,
        offsets_name=offsets_name,
        offsets_table=int_array("uint32_t", offsets_name, strides.channels),
        fill=place.layout.fill,
        is_input=any(other.value == entry.value for other in graph.inputs),
    )


def build_model(graph: Graph, prefix: str, reference: Reference, places: tuple[tuple[HostTensor, ...], tuple[HostTensor, ...]], image: ImageView) -> ModelView:
    """The view of <prefix>_model.h, <prefix>_model.c and the self-test; `places` of inputs and of outputs, in the graph's order."""
    tensors: list[tuple[TensorView, ...]] = []
    entries: tuple[tuple[GraphInput | GraphOutput, ...], ...] = (graph.inputs, graph.outputs)
    for kind, ends, where in zip(("input", "output"), entries, places, strict=True):
        identifiers = unique_identifiers(end.name for end in ends)
        tensors.append(tuple(_tensor(kind, k, end, identifiers[k], graph, place) for k, (end, place) in enumerate(zip(ends, where, strict=True))))
    identifiers = unique_identifiers(node.name for node in graph.nodes)
    layers = tuple(LayerName(index=k, name=node.name, operator=type(node.op).__name__, identifier=identifiers[k].upper()) for k, node in enumerate(graph.nodes))
    return ModelView(
        prefix=prefix,
        macro=prefix.upper(),
        model_name=graph.name,
        inputs=tensors[0],
        outputs=tensors[1],
        layers=layers,
        image=image,
        host_work=2 * work_half(graph),
        reference_sums=reference.sums,
        reference_patch=reference.patch,
        reference_values=reference.values,
    )
