"""Permutation Equivariant Neural Functionals (Zhou et al., NeurIPS 2023, arXiv 2302.14040).

Networks that read the weights of other networks and commute with the permutations of their
neurons. Reproduced: parameter counts (Table 1), predicting generalization (Tables 2 and 19),
classifying INRs (Tables 3 and 17), winning tickets (Table 5), editing INRs (Table 6).
"""
