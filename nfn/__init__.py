"""Networks that read and write the weights of other networks.

Shared by the papers of this topic: weight spaces and their neuron permutations (`weights`),
permutation equivariant layers (`layers`), input encodings (`encodings`), and the factories of the
networks that are read: fitted implicit representations (`siren_sets`), zoos of small classifiers
(`zoo`) and pruned networks (`pruning`). README.md lists all modules.

Zhou et al. (2023a) is "Permutation Equivariant Neural Functionals", Zhou et al. (2023b) "Neural
Functional Transformers"; "package 0.1.2" is their PyTorch package `nfn`.
"""
