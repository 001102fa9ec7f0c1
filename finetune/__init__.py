"""Adapting trained networks to shifted data: which parameters to tune, and by how much.

Shifts are data: corruptions of images (`corruptions`), sets that others made (`readers`), and
shifts of labels, classes, colors and backgrounds (`shifts`). Tuning takes any tree of parameters
and any loss: blocks, criteria that choose among them, and strategies.
"""
