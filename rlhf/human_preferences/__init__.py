"""Deep RL from Human Preferences (Christiano et al., NeurIPS 2017, arXiv 1706.03741).

A policy learns from comparisons of short clips of its own behavior: an ensemble of reward models
explains the answers, and reinforcement learning follows what they agree on, while more are asked.
"""
