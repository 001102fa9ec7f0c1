"""The experiments of the paper as pure functions."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from common.data.epochs import epoch_indices
from common.evaluation import SumCount, classification_values, sums_over
from common.experiment import Batch, Experiment, Metrics
from common.optim import make_optimizer
from common.steps import TrainState, base_gradient, gradient_step, init_train_state
from nfn import features
from nfn.equivariant import data as inr_data
from nfn.equivariant.models import ClassifierSpec, classifier, permute_each
from nfn.weights import hidden_only

PyTree = Any


def inr_classification(config: ConfigDict) -> Experiment:
    """Classifies images by the weights of the SIRENs fitted to them (Table 3)."""
    spec = inr_data.siren_set_spec(config.data)
    space = inr_data.siren_space(spec)
    network = classifier(
        space, ClassifierSpec(**config.model.to_dict()), num_classes=inr_data.num_classes(spec)
    )
    optimizer = make_optimizer(num_steps=config.num_steps, **config.optimizer)
    num_train = inr_data.num_examples(spec)["train"]
    chunk = config.evaluate_chunk

    def init(key: jax.Array) -> TrainState:
        return init_train_state(network.init(key), optimizer)

    def loss(
        params: PyTree, data: PyTree, batch: PyTree, key: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        train = jax.tree.map(lambda x: x[batch["index"]], data["train"])
        logits = network.apply(params, train["params"], data["statistics"], key)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, train["label"])
        return jnp.mean(losses), {
            "accuracy": 100.0 * jnp.mean(jnp.argmax(logits, -1) == train["label"])
        }

    def batch(step: int) -> Batch:
        return {
            "index": epoch_indices(
                config.seed, step, num_examples=num_train, batch_size=config.batch_size
            )
        }

    def measure(state: TrainState, data: PyTree, part: str) -> dict[str, SumCount]:
        def values(rows: PyTree) -> dict[str, jax.Array]:
            logits = network.apply(state.params, rows["params"], data["statistics"])
            return classification_values(logits, rows["label"])

        sums = sums_over(values, data[part], chunk=chunk)
        return {f"{part}_{name}": pair for name, pair in sums.items()}

    def evaluate(state: TrainState, data: PyTree, key: jax.Array) -> dict[str, SumCount]:
        del key
        return measure(state, data, "valid")

    def final(state: TrainState, data: PyTree, key: jax.Array) -> dict[str, SumCount]:
        def permuted(rows: PyTree) -> dict[str, jax.Array]:
            """The same test networks with their hidden neurons in another order."""
            moved = permute_each(
                jax.random.fold_in(key, rows["row"][0]),
                hidden_only(space),
                features.features_from_params(hidden_only(space), rows["params"]),
            )
            weights = features.params_from_features(hidden_only(space), moved)
            before = network.apply(state.params, rows["params"], data["statistics"])
            after = network.apply(state.params, weights, data["statistics"])
            values = classification_values(after, rows["label"])
            same = jnp.argmax(before, -1) == jnp.argmax(after, -1)
            return {
                "permuted_test_accuracy": values["accuracy"],
                "permuted_test_agreement": 100.0 * same,
                "permuted_logit_change": jnp.max(jnp.abs(before - after), axis=-1),
            }

        rows = {**data["test"], "row": jnp.arange(data["test"]["label"].shape[0])}
        return {
            **measure(state, data, "train"),
            **measure(state, data, "test"),
            **sums_over(permuted, rows, chunk=chunk),
        }

    return Experiment(
        data=lambda: inr_data.siren_data(
            spec, kind=config.model.kind, normalize=config.data.normalize
        ),
        init=init,
        step=gradient_step(
            loss,
            optimizer,
            gradient=base_gradient(
                deterministic=config.deterministic, logical_shards=config.logical_shards
            ),
        ),
        batch=batch,
        evaluate=evaluate,
        final=final,
        predict=lambda state, data, weights: network.apply(
            state.params, weights, data["statistics"]
        ),
        abstract_data=lambda: inr_data.abstract_siren_data(spec, kind=config.model.kind),
        describe=lambda: inr_data.describe(spec),
    )


EXPERIMENTS = {"inr_classification": inr_classification}
