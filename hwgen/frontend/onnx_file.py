"""Reading a model file that nobody vouches for: sizes, external data, structure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, EncodeError, Message
from onnx.inliner import inline_local_functions

from hwgen.errors import ModelError
from hwgen.frontend.onnx_constants import tensor
from hwgen.ops.base import MAX_ELEMENTS

MAX_BYTES = (1 << 31) - 1  # protobuf's own limit on a message
MAX_NODES = 1 << 18  # after inlining: a few functions that call each other twice would make any number of them
MAX_CALL_DEPTH = 64
OLDEST_OPSET = 7
QUANT, BIPOLAR, TRUNC = ("Quant", "IntQuant"), ("BipolarQuant",), ("Trunc",)  # of QONNX
QUANTIZED_OPERATORS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinear", "ConvInteger", "MatMulInteger", "QGemm")


def network_name(path: Path) -> str:
    """The network's name: its file's, without suffix; bytes that are no UTF-8 become question marks."""
    return path.stem.encode("utf-8", "replace").decode()


def load_model(path: Path) -> onnx.ModelProto:
    """The checked model with all its data in memory. Raises ModelError for whatever is no sound ONNX model."""
    model = onnx.ModelProto()
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(f"model {path.name!r}: must be below 2 GiB, not {path.stat().st_size} bytes; keep large weights in external data")
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"model {path.name!r}: cannot be read ({error.strerror}); name an .onnx file") from error
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise ModelError(f"model {path.name!r}: is truncated or not an ONNX model; export or copy it again") from error
    if not model.HasField("graph") or not model.ir_version:
        raise ModelError(f"model {path.name!r}: is not an ONNX model, it holds no graph; export or copy it again")
    if not _all_text_is_unicode(model):
        raise ModelError(f"model {path.name!r}: names must be UTF-8 text; the file is damaged, export or copy it again")
    _read_external_data(model, path)
    model = _inlined(model, path.name)
    check_model(model, path.name)
    return model


def check_model(model: onnx.ModelProto, name: str) -> None:
    """Structure, opset and data of a model in memory. Raises ModelError; unknown operators are left for the importer to list."""
    opset = opset_of(model, name)
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= opset <= newest:
        raise ModelError(f"model {name!r}: opset must be from {OLDEST_OPSET} to {newest}, not {opset}; export the model with one of these")
    for initializer in model.graph.initializer:
        tensor(initializer, f"initializer {initializer.name!r}")
    if model.graph.sparse_initializer:
        raise ModelError(f"model {name!r}: sparse initializers are not supported; store the weights dense")
    if all(node.domain not in ("", "ai.onnx") or onnx.defs.has(node.op_type) for node in model.graph.node):
        _run_checker(model, name)


def opset_of(model: onnx.ModelProto, name: str) -> int:
    """Version of ONNX's own operators that the model asks for."""
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if not versions:
        raise ModelError(f"model {name!r}: must import ONNX's own operators (opset_import is empty); export it again")
    return int(max(versions))


def is_quantized_model(model: onnx.ModelProto) -> bool:
    """The model holds quantized operators, in QDQ, QOperator or QONNX form."""
    return is_qonnx_model(model) or any(node.op_type.startswith(QUANTIZED_OPERATORS) for node in model.graph.node)


def is_qonnx_model(model: onnx.ModelProto) -> bool:
    """The model holds quantizers of QONNX."""
    return any(node.op_type in (*QUANT, *BIPOLAR, *TRUNC) for node in model.graph.node)


def _run_checker(model: onnx.ModelProto, name: str) -> None:
    known = onnx.ModelProto()
    known.CopyFrom(model)
    known.ir_version = min(model.ir_version, onnx.IR_VERSION)  # the checker refuses files of newer writers; the content decides
    declared = {entry.domain for entry in known.opset_import}
    for domain in sorted({node.domain for node in known.graph.node} - declared - {"", "ai.onnx"}):
        known.opset_import.add(domain=domain, version=1)  # some exporters of QONNX leave it out
    for output in known.graph.output:
        output.type.tensor_type.shape.SetInParent()  # exporters leave it out; import computes it
    try:
        onnx.checker.check_model(known)
    except (onnx.checker.ValidationError, ValueError, EncodeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"model {name!r}: breaks ONNX's rules: {reason}") from error


def _all_text_is_unicode(message: Message) -> bool:
    """Python's protobuf hands out bytes where a string field of the file is no UTF-8."""
    for field, value in message.ListFields():
        items = value if isinstance(value, Iterable) and not isinstance(value, str | bytes) else [value]
        if field.type == field.TYPE_STRING and not all(isinstance(item, str) for item in items):
            return False
        if field.type == field.TYPE_MESSAGE and not all(_all_text_is_unicode(item) for item in items):
            return False
    return True


def _inlined(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The model without its local functions, which newer exporters write."""
    if not model.functions:
        return model
    _refuse_explosion(model, name)
    try:
        inlined: onnx.ModelProto = inline_local_functions(model)
    except Exception as error:  # the C++ inliner raises plain RuntimeError and ValueError on recursive or malformed functions
        raise ModelError(f"model {name!r}: its local functions cannot be inlined; export it without functions") from error
    return inlined


def _refuse_explosion(model: onnx.ModelProto, name: str) -> None:
    """Raises ModelError before inlining would write more than MAX_NODES nodes, or call deeper than MAX_CALL_DEPTH (recursion: for ever)."""
    bodies = {(function.domain, function.name): function.node for function in model.functions}
    known: dict[tuple[str, str], int] = {}

    def expanded(nodes: Iterable[onnx.NodeProto], depth: int) -> int:
        if depth > MAX_CALL_DEPTH:
            raise ModelError(f"model {name!r}: its local functions must call each other at most {MAX_CALL_DEPTH} deep; export it without functions")
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type)
            if key in bodies and key not in known:
                known[key] = expanded(bodies[key], depth + 1)
            inner = (graph.node for attribute in node.attribute for graph in (attribute.g, *attribute.graphs))
            total += known.get(key, 1) + sum(expanded(part, depth + 1) for part in inner)
        return total

    nodes = expanded(model.graph.node, 0)
    if nodes > MAX_NODES:
        raise ModelError(f"model {name!r}: must hold at most {MAX_NODES} nodes without its local functions, not {nodes}; export it without functions")


def _read_external_data(model: onnx.ModelProto, path: Path) -> None:
    folder, total = path.parent.resolve(), 0
    for proto in _tensors(model):
        if proto.data_location == onnx.TensorProto.EXTERNAL:
            total += _stored_bytes(proto)
            if total > MAX_BYTES:  # many tensors may share one file
                raise ModelError(f"model {path.name!r}: external data must be below 2 GiB together, as much as one ONNX file can hold")
            proto.raw_data = _external_bytes(proto, folder)
            proto.ClearField("data_location")
            proto.ClearField("external_data")


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from model.graph.initializer
    for node in (*model.graph.node, *(inner for function in model.functions for inner in function.node)):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _external_bytes(proto: onnx.TensorProto, folder: Path) -> bytes:
    """The tensor's bytes, from a plain file inside the model's folder and from nowhere else."""
    where = f"initializer {proto.name!r}"
    entries = {entry.key: entry.value for entry in proto.external_data}
    location = entries.get("location", "")
    file = folder / location
    if not location or "\0" in location or Path(location).is_absolute() or ".." in Path(location).parts:
        raise ModelError(f"{where}: external data must lie in the model's folder, not at {location!r}")
    try:
        inside, found = file.resolve().is_relative_to(folder), file.is_file()
    except (OSError, RuntimeError):  # a name too long, a link to itself
        inside, found = True, False
    if not inside:
        raise ModelError(f"{where}: external data {location!r} is a link out of the model's folder; copy the file there")
    if not found:
        raise ModelError(f"{where}: external data {location!r} is missing; keep the file beside the model")
    available = file.stat().st_size
    offset = _number(entries.get("offset", "0"), where, "offset")
    length = _number(entries.get("length", str(max(available - offset, 0))), where, "length")
    needed = _stored_bytes(proto)
    if offset + length > available or length != needed:
        raise ModelError(f"{where}: external data must hold {needed} bytes from offset {offset}, but length is {length} and {location!r} has {available} bytes")
    with file.open("rb") as stream:
        stream.seek(offset)
        content: bytes = stream.read(length)
    return content


def _number(text: str, where: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ModelError(f"{where}: {what} of external data must be a plain number, not {text[:40]!r}")
    return int(text)


def _stored_bytes(proto: onnx.TensorProto) -> int:
    """Bytes of a tensor's raw form: shape times size of the element, 4-bit and 2-bit elements packed."""
    elements = int(math.prod(proto.dims))
    names = {number: name for name, number in onnx.TensorProto.DataType.items()}
    kind = names.get(proto.data_type, "")
    if elements < 0 or any(size < 0 for size in proto.dims) or elements > MAX_ELEMENTS or kind in ("", "UNDEFINED", "STRING"):
        found = f"{kind or proto.data_type} {list(proto.dims)}"
        raise ModelError(f"initializer {proto.name!r}: must be a numeric tensor of at most {MAX_ELEMENTS} elements, not {found}")
    if kind in ("INT4", "UINT4", "FLOAT4E2M1"):
        return (elements + 1) // 2
    if kind in ("INT2", "UINT2"):
        return (elements + 3) // 4
    return elements * int(onnx.helper.tensor_dtype_to_np_dtype(proto.data_type).itemsize)
