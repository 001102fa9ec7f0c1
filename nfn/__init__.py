"""Networks that read and write the weights of other networks.

Shared by the papers of this topic: weight spaces and their neuron permutations (`weights`),
permutation equivariant layers (`layers`), input encodings (`encodings`) and fitted implicit
representations (`siren`).
"""
