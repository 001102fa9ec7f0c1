"""An optimizer that forgets: every update is its first one."""

import optax


def forgetful(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Returns an optimizer that takes every step from a fresh state of `optimizer`.

    Source: Andriushchenko et al. (2023), released code of the contrastive run, whose step does not
    return the state of Adam. What is left of Adam is lr g / (|g| + 1e-8), descent by signs, with
    the first learning rate of any schedule.
    """

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        fresh = optimizer.init(updates if params is None else params)
        return optimizer.update(updates, fresh, params)[0], state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
