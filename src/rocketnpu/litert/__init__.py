"""LiteRT, Google's TFLite runtime: pieces of a model on the CPU, and the reference for all of its tensors."""

from rocketnpu.litert.extract import extract_piece
from rocketnpu.litert.inputs import check_input, check_inputs
from rocketnpu.litert.reference import Reference
from rocketnpu.litert.runner import Piece

__all__ = ["Piece", "Reference", "check_input", "check_inputs", "extract_piece"]
