"""BOON: operators with exact boundary conditions (Saad et al., ICLR 2023, arXiv 2212.07477).

Kernel layers of neural operators are refined so that Dirichlet, Neumann and periodic boundary
conditions hold for any weights and any input. Reproduced: single-step and multi-step benchmarks of
Stokes' second problem, Burgers', heat and wave equations and the lid-driven cavity, and transfer to
other resolutions.
"""
