"""Surgical Fine-Tuning Improves Adaptation to Distribution Shifts (Lee et al., ICLR 2023).

Tuning one block of a trained network can fit a shifted target better than tuning all of it (arXiv
2210.11466); which block depends on whether the shift is of the input, of the features or of the
label.
"""
