"""From float to integers: ranges, scales, weights, and the proof that they mean the same in ONNX Runtime."""

from hwgen.quantize.certify import Record, certificates
from hwgen.quantize.options import Granularity, QuantizeOptions, RangeMethod, Scheme
from hwgen.quantize.quantizer import quantize, quantize_with_report
from hwgen.quantize.report import QuantizationReport

__all__ = [
    "Granularity",
    "QuantizationReport",
    "QuantizeOptions",
    "RangeMethod",
    "Record",
    "Scheme",
    "certificates",
    "quantize",
    "quantize_with_report",
]
