"""Tiles: an NPU op goes in, the rows, columns and channels of each of its tasks come out.

`convolution.py` serves the convolution units, `pool.py` the pooling unit; `pool_cost.py` compares both for a pool.
"""
