"""Register arithmetic: an NPU op with real scales goes in, integer multipliers and shifts come out.

`convolution.py` and `per_channel.py` serve convolutions, `elementwise.py` element-wise tasks and copies,
`residual.py` a fused addition; `registers.py` holds the ranges of the registers. docs/requantization.md explains the
recipes.
"""
