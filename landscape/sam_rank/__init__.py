"""Sharpness-Aware Minimization Leads to Low-Rank Features (Andriushchenko et al., NeurIPS 2023).

Training at the worst point of a ball around the parameters lowers the rank of a network's features
(arXiv 2305.16292). In a network of two layers it does so by switching units off, one by one.
"""
