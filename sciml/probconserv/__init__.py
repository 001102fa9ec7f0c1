"""ProbConserv: conservation laws as Gaussian observations (Hansen et al., ICML 2023).

D. Hansen, D. C. Maddix, S. Alizadeh, G. Gupta, M. W. Mahoney, "Learning physical models that can
respect conservation laws", arXiv 2302.11002. A probabilistic model, here an Attentive Neural
Process (`anp`), predicts mean and variance of a solution; a conservation law in integral form is a
linear constraint on it, and conditioning on that constraint makes it hold exactly.
"""
