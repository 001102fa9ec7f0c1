"""Initial value problems with their boundary data: exact solutions, and one solver (`cavity`).

`problems` lists them by name. All are pure functions of parameter arrays [batch], on the unit
interval or square with uniform grids that include both ends, in the precision of their inputs.
"""
