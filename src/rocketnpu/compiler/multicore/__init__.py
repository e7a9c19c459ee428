"""Several cores: planned steps go in, groups of steps and each core's share of every task come out.

`search.py` chooses the groups, `share.py` divides a plan, `extents.py` says which rows a plan reads and writes.
"""
