"""Operator networks for partial differential equations, with constraints that hold exactly.

Shared by the papers of this topic: exact solutions and solvers (`pdes`), linear constraints
(`constraints`), one-sided stencils and boundary conditions (`boundary`), linear kernel layers that
know their boundary rows (`kernels`, `spectral`, `multiwavelet`) and the networks made of them
(`operators`). README.md lists all modules.
"""
