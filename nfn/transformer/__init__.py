"""Neural Functional Transformers (Zhou et al., NeurIPS 2023, arXiv 2305.13546).

Attention between the weights of a network that commutes with the permutations of its neurons.
Reproduced: INR2ARRAY, SIRENs as permutation invariant arrays, and classifying images by these
arrays; predicting generalization; editing INRs. Tables are named after what they measure: the
text of the paper could not be read, only numbers that others report.
"""
