"""Register lists: planned steps go in, command words, constants and relocations of a Program come out.

`program.py` calls the others: `convolution.py`, `pool.py`, `residual.py`, and for tasks without a convolution
`flying.py`, `elementwise.py`, `lookup.py`, `move.py`, `upsample.py`, `wide_sum.py`. `command_list.py` holds one task's
registers, `constants.py` the data that tasks read.
"""
