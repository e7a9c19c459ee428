"""LiteRT, Google's TFLite runtime: pieces of a model on the CPU, and the reference for all of its tensors."""

from rocketnpu.cpu.litert.inputs import check_input, check_inputs
from rocketnpu.cpu.litert.reference import Reference
from rocketnpu.cpu.litert.runner import Piece
from rocketnpu.frontends.tflite.extract import extract_piece

__all__ = ["Piece", "Reference", "check_input", "check_inputs", "extract_piece"]
