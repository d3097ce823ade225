"""From float to integers: ranges, scales, weights, and the proof that they mean the same in ONNX Runtime."""

from hwgen.quantize.certify import Record, certificates
from hwgen.quantize.options import CALIBRATED, Effort, Granularity, QuantizeOptions, RangeMethod, Repair, Scheme
from hwgen.quantize.quantizer import quantize, quantize_with_report
from hwgen.quantize.report import QuantizationReport
from hwgen.quantize.trial import Score, Trial

__all__ = [
    "CALIBRATED",
    "Effort",
    "Granularity",
    "QuantizationReport",
    "QuantizeOptions",
    "RangeMethod",
    "Record",
    "Repair",
    "Scheme",
    "Score",
    "Trial",
    "certificates",
    "quantize",
    "quantize_with_report",
]
