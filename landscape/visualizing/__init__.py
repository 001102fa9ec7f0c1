"""Visualizing the Loss Landscape of Neural Nets (Li et al., NeurIPS 2018, arXiv 1712.09913).

Pictures of the loss over planes through trained weights, along random directions that are as long,
filter by filter, as the weights. Reproduced: what depth, shortcuts and width do to the surface, and
small against large batches, each with numbers of several planes beside the pictures.
"""
