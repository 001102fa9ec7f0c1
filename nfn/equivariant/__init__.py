"""Permutation Equivariant Neural Functionals (Zhou et al., NeurIPS 2023, arXiv 2302.14040).

Networks that read the weights of other networks and commute with the permutations of their
neurons. Reproduced so far: Table 3, classifying images by the weights of SIRENs fitted to them.
"""
