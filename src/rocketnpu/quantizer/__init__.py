"""Float models to INT8 models, by the published quantizers of LiteRT and ONNX Runtime."""

from rocketnpu.quantizer.report import LayerLoss, Report
from rocketnpu.quantizer.run import Progress, QuantizedModel, quantize
from rocketnpu.quantizer.samples import InputSets

__all__ = ["InputSets", "LayerLoss", "Progress", "QuantizedModel", "Report", "quantize"]
