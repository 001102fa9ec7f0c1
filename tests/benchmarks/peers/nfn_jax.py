"""The cases of `nfn_vs_torch` on our side, the way our library and experiments run them."""

import itertools
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from common.config import load_config
from common.experiment import build
from nfn import layers
from nfn.features import Features
from nfn.sine import SineMethod
from nfn.siren import fit_siren, siren_space
from nfn.weights import WeightSpace, hidden_only
from nfn.zoo import train_networks, zoo_images
from nfn.zoo_recipes import Recipe, draw_hyperparameters
from tests.benchmarks.peers.jax_cases import (
    experiment_case,
    random_data,
    random_features,
    serve_jax,
)
from tests.benchmarks.peers.timed_cases import Case

CONFIG = "nfn/equivariant/configs/inr_classification.py:cpu"
SHAPES = {"64": (64, 64), "512": (8, 512)}  # batch, channels


def matmul_flops(space: WeightSpace, *, batch: int, c: int, pointwise: bool) -> float:
    """Returns the cost model of one layer: a matrix per set of groups at every of its positions."""
    sizes, carried = space.group_sizes, [frozenset(s.permuted_groups) for s in space.tensors]
    if pointwise:
        positions = [(math.prod(s.permuted_shape), s.multiplicity) for s in space.tensors]
    else:
        subsets = {
            frozenset(subset)
            for groups in carried
            for size in range(len(groups) + 1)
            for subset in itertools.combinations(groups, size)
        }
        positions = []
        for subset in subsets:
            members = [
                s for s, groups in zip(space.tensors, carried, strict=True) if subset <= groups
            ]
            multiplicity = sum(s.multiplicity for s in members)
            positions.append((math.prod(sizes[group] for group in subset), multiplicity))
    return 2.0 * batch * c**2 * sum(count * m**2 for count, m in positions)


def layer_case(kind: str, shape: str, *, backward: bool) -> Case:
    """One layer on a batch of SIRENs 2-32-32-1; the gradient is that of the parameters."""
    batch, c = SHAPES[shape]
    full = siren_space((2, 32, 32, 1))
    space = hidden_only(full) if kind == "hnp" else full
    if kind == "pt":
        init, layer = layers.init_pointwise, layers.pointwise
    else:
        init, layer = layers.init_equivariant_linear, layers.equivariant_linear
    params = init(jax.random.key(0), space=space, c_in=c, c_out=c)
    x = random_features(space, c, batch)

    def loss(params: Any, x: Features) -> jax.Array:
        y = layer(params, x, space=space)
        return jnp.sum(jnp.stack([jnp.mean(leaf**2) for leaf in y.values()]))

    function = jax.value_and_grad(loss) if backward else partial(layer, space=space)
    compiled = jax.jit(function)
    flops = matmul_flops(space, batch=batch, c=c, pointwise=kind == "pt")
    return Case(
        lambda: jax.block_until_ready(compiled(params, x)),
        flops=flops * (1 + backward),
        program=(compiled, (params, x)),
    )


def siren_case(sine: SineMethod) -> Case:
    """Adam steps of 32 SIRENs 2-32-32-1 on all pixels of 28x28 images, as `fit_sirens` does."""
    count, steps = 32, 50
    fit = partial(
        fit_siren,
        widths=(2, 32, 32, 1),
        omega=15.0,
        steps=steps,
        optimizer=optax.adam(5e-3),
        sine=sine,
    )
    compiled = jax.jit(jax.vmap(fit))
    keys = jax.random.split(jax.random.key(0), count)
    images = jnp.asarray(np.random.default_rng(0).random((count, 28, 28)), jnp.float32)
    return Case(
        lambda: jax.block_until_ready(compiled(keys, images)),
        units=count * steps,
        program=(compiled, (keys, images)),
    )


def zoo_case() -> Case:
    """Trainings of CNNs 1-16-16-16-10 on 32x32 images, batch 64, Adam; accuracies included."""
    count, steps, generator = 2, 200, np.random.default_rng(0)
    recipe = Recipe((1, 16, 16, 16), (10,), steps, 64, (1e-3, 1e-3), l2=(1e-4, 1e-4))
    train, test = (generator.normal(size=(n, 32, 32)).astype(np.float32) for n in (2_000, 500))
    labels = [generator.integers(10, size=len(x)) for x in (train, test)]
    images = jax.device_put(zoo_images(train, labels[0], test, labels[1], channels=recipe.channels))
    index = np.arange(count, dtype=np.int32)
    drawn = draw_hyperparameters(recipe, index, seed=0, num_images=len(train))
    run = partial(train_networks, jax.random.key(0), images, index, drawn, recipe=recipe)
    return Case(run, units=count * steps)


def classifier_case() -> Case:
    """Training steps of the NP classifier of Table 3 at preset cpu, as many as it takes a call."""
    config = load_config(CONFIG, {"data.copies": "1", "data.train_per_class": "200"})
    experiment, steps = build(config), config.steps_per_call
    return experiment_case(experiment, random_data(experiment), steps=steps)


def main() -> None:
    layers = {
        f"{kind} {shape} {name}": partial(layer_case, kind, shape, backward=name == "both")
        for kind in ("np", "hnp", "pt")
        for shape in SHAPES
        for name in ("forward", "both")
    }
    whole = {
        "siren": partial(siren_case, "polynomial"),
        "siren jnp.sin": partial(siren_case, "jnp"),
        "zoo": zoo_case,
        "classifier": classifier_case,
    }
    serve_jax({**whole, **layers})


if __name__ == "__main__":
    main()
