"""Loss landscapes of any network: directions in parameter space, curvature, paths of optimizers.

Everything takes a `loss(params, batch)` that is a mean over the batch, and any tree of parameters:
directions (`directions`, `filters`, `rescaling`, `trajectories`), Hessian and Gauss-Newton products
averaged over batches (`products`), eigenvalues and their density (`curvature`, `lanczos`,
`density`), traces and the expected filter-normalized sharpness (`traces`).

Surfaces over lines and planes are of any numbers per row of the data: evaluated (`surfaces`,
`grids`, `interpolation`), measured (`shapes`), drawn and written (`figures`, `meshes`, `viewer`).
"""
