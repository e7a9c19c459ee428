"""ONNX Runtime: pieces of an ONNX model on the CPU, and the reference for all of its tensors."""

from rocketnpu.ort.extract import extract_piece
from rocketnpu.ort.reference import Reference
from rocketnpu.ort.runner import Piece

__all__ = ["Piece", "Reference", "extract_piece"]
