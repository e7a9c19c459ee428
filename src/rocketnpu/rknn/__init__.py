"""The vendor's compiled models (.rknn): reading them, and running them as programs."""

from rocketnpu.rknn.load import load_rknn
from rocketnpu.rknn.materialise import materialise

__all__ = ["load_rknn", "materialise"]
