"""On progressive sharpening, flat minima and generalisation (MacDonald et al., arXiv 2305.14683).

One mechanism, the Jacobian of the outputs in the inputs, is to link the curvature of the loss with
generalization: training has to raise it, and the sharpness with it, up to the edge of stability.
"""
