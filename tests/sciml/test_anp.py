"""The Attentive Neural Process: symmetries, and a second implementation in plain loops."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import integrate, stats

from sciml.probconserv import normal
from sciml.probconserv.anp import (
    AnpBatch,
    AnpParams,
    AnpSpec,
    Observations,
    anp,
    encode_latent,
    init_anp,
    negative_elbo,
    predict_samples,
)
from sciml.probconserv.attention import dropout, kept
from sciml.probconserv.normal import Normal, kl_divergence, log_density

SPEC = AnpSpec(width=8, latent=6, heads=2, dropout=0.2)
STILL = SPEC._replace(dropout=0.0)
# The same parts once each, for what does not depend on how often they follow one another.
THIN = SPEC._replace(self_attention_layers=1, cross_attention_layers=1, decoder_layers=2)
FUNCTIONS, CONTEXTS, TARGETS = 3, 7, 5

forward = jax.jit(partial(anp, spec=SPEC))
latent_of = jax.jit(partial(encode_latent, spec=SPEC))
init = jax.jit(init_anp, static_argnames="spec")


def problem(dtype: Any, *, seed: int = 0, spec: AnpSpec = SPEC) -> tuple[AnpParams, AnpBatch]:
    """Returns a network, with biases and norms away from where they start, and functions."""
    generator = np.random.default_rng(seed)

    def numbers(*shape: int, around: Any = 0.0, size: float = 1.0) -> Any:
        return jnp.asarray(around + size * generator.normal(size=shape), dtype)

    params = jax.tree.map(
        lambda x: numbers(*x.shape, around=np.asarray(x), size=0.1),
        init(jax.random.key(9), spec=spec),
    )
    known = [
        Observations(numbers(FUNCTIONS, count, 2), numbers(FUNCTIONS, count))
        for count in (CONTEXTS, TARGETS)
    ]
    batch = AnpBatch(*known)
    return params, batch


# A second implementation, one function at a time, in NumPy.


def np_linear(params: Any, x: np.ndarray) -> np.ndarray:
    return np.stack([row @ params.weight + params.bias for row in x])


def np_attention(params: Any, query: Any, keys: Any, values: Any, heads: int) -> np.ndarray:
    size = query.shape[1] // heads
    rows = []
    for q in query:
        found = []
        for h in range(heads):
            block = slice(h * size, (h + 1) * size)
            scores = np.array(
                [
                    (q @ params.projections[0][:, block]) @ (k @ params.projections[1][:, block])
                    for k in keys
                ]
            )
            weights = np.exp(scores / math.sqrt(size))
            weights /= weights.sum()
            found.append(
                sum(
                    w * (v @ params.projections[2][:, block])
                    for w, v in zip(weights, values, strict=True)
                )
            )
        joined = np.concatenate([q, *found])
        y = q + joined @ params.output.weight + params.output.bias
        y = (y - y.mean()) / np.sqrt(y.var() + 1e-5)
        rows.append(y * params.norm.weight[0] + params.norm.bias)
    return np.stack(rows)


def np_encoded(points_map: Any, attentions: Any, points: Any, values: Any, heads: int) -> Any:
    x = np_linear(points_map, np.column_stack([points, values]))
    for layer in attentions:
        x = np_attention(layer, x, x, x, heads)
    return x


def np_latent(params: Any, points: Any, values: Any, heads: int) -> tuple[Any, Any]:
    part = params.latent
    x = np_encoded(part.points, part.attentions, points, values, heads).mean(axis=0)[None, :]
    hidden = np.maximum(np_linear(part.hidden, x), 0)
    log_variance = np_linear(part.log_variance, hidden)[0]
    return np_linear(part.mean, hidden)[0], np.sqrt(np.exp(log_variance))


def np_anp(params: Any, points: Any, values: Any, targets: Any, z: Any, spec: AnpSpec) -> Any:
    part = params.deterministic
    encoded = np_encoded(part.points, part.self_attentions, points, values, spec.heads)
    query, keys = np_linear(part.query, targets), np_linear(part.keys, points)
    for layer in part.cross_attentions:
        query = np_attention(layer, query, keys, encoded, spec.heads)
    at_targets = np_linear(params.decoder.target, targets)
    hidden = np.stack(
        [np.concatenate([q, z, point]) for q, point in zip(query, at_targets, strict=True)]
    )
    for layer in params.decoder.layers:
        hidden = np.maximum(np_linear(layer, hidden), 0)
    mean, raw = np_linear(params.decoder.outputs, hidden).T
    return mean, np.log1p(np.exp(raw)) + spec.min_scale


def test_forward_and_elbo_agree_with_loops_over_points_and_heads() -> None:
    with jax.enable_x64(True):
        params, batch = problem(jnp.float64)
        z = jax.random.normal(jax.random.key(5), (FUNCTIONS, SPEC.latent), jnp.float64)
        at_targets = forward(params, batch.contexts, batch.targets.points, latent=z)
        # The noise of z as the loss draws it: from the first of its four keys.
        noise = jax.random.normal(jax.random.split(jax.random.key(4), 4)[0], z.shape, jnp.float64)
        loss = jax.jit(partial(negative_elbo, spec=STILL))(params, batch, jax.random.key(4))

    plain, rows = jax.tree.map(np.asarray, (params, batch))
    expected = 0.0
    for i in range(FUNCTIONS):
        points, values, targets, truth = (x[i] for x in jax.tree.leaves(rows))
        mean, scale = np_anp(plain, points, values, targets, np.asarray(z[i]), SPEC)
        np.testing.assert_allclose(at_targets.mean[i], mean, atol=1e-12)
        np.testing.assert_allclose(at_targets.scale[i], scale, atol=1e-12)
        q = np_latent(plain, targets, truth, SPEC.heads)
        p = np_latent(plain, points, values, SPEC.heads)
        drawn = q[0] + q[1] * np.asarray(noise[i])
        mean, scale = np_anp(plain, points, values, targets, drawn, SPEC)
        expected -= stats.norm.logpdf(truth, mean, scale).sum()
        kl = np.log(p[1] / q[1]) + (q[1] ** 2 + (q[0] - p[0]) ** 2) / (2 * p[1] ** 2) - 0.5
        expected += kl.sum()
    np.testing.assert_allclose(loss, expected, rtol=1e-10)


def test_order_of_contexts_is_nothing_and_targets_keep_theirs() -> None:
    with jax.enable_x64(True):
        params, batch = problem(jnp.float64)
        shuffle, reorder = jnp.array([3, 0, 6, 1, 5, 2, 4]), jnp.array([4, 2, 0, 3, 1])
        (points, values), targets = batch.contexts, batch.targets.points
        z = jnp.ones((FUNCTIONS, SPEC.latent))
        shuffled = Observations(points[:, shuffle], values[:, shuffle])

        at_targets = forward(params, batch.contexts, targets, latent=z)
        mixed = forward(params, shuffled, targets, latent=z)
        other = forward(params, batch.contexts, targets[:, reorder], latent=z)
        fewer = forward(params, batch.contexts, targets.at[:, 2:].set(0.3), latent=z)
        moved = forward(params, Observations(points, shuffled.values), targets, latent=z)
        sets = [latent_of(params, known) for known in (batch.contexts, shuffled)]

    close = partial(np.testing.assert_allclose, rtol=0, atol=1e-12)
    at_targets, mixed, other, fewer, moved, sets = jax.tree.map(
        np.asarray, (at_targets, mixed, other, fewer, moved, sets)
    )
    jax.tree.map(close, at_targets, mixed)
    jax.tree.map(close, sets[0], sets[1])
    jax.tree.map(lambda x, y: close(x[:, reorder], y), at_targets, other)
    jax.tree.map(lambda x, y: close(x[:, :2], y[:, :2]), at_targets, fewer)
    assert np.abs(at_targets.mean - moved.mean).max() > 1e-3  # values belong to their points


def test_number_of_parameters_is_that_of_the_release() -> None:
    params = jax.eval_shape(partial(init_anp, spec=AnpSpec()), jax.random.key(0))
    assert sum(math.prod(x.shape) for x in jax.tree.leaves(params)) == 989_826


def test_initial_weights_have_the_variance_of_their_distribution() -> None:
    params = init(jax.random.key(1), spec=AnpSpec())
    first, second = params.latent.attentions
    decoder = params.decoder.layers[1]

    assert jnp.std(decoder.weight) == pytest.approx(math.sqrt(2 * 2 / (2 * 384)), rel=0.01)
    assert jnp.std(first.projections) == pytest.approx(math.sqrt(2 / 256), rel=0.01)
    assert jnp.std(first.output.weight) == pytest.approx(math.sqrt(2 / 384), rel=0.02)
    assert jnp.abs(decoder.bias).max() == pytest.approx(384**-0.5, rel=0.05)
    assert jnp.all(first.norm.weight == 1) and jnp.all(first.norm.bias == 0)
    assert jnp.abs(first.projections - second.projections).max() > 0.1


def test_scale_has_a_floor_that_is_reached() -> None:
    with jax.enable_x64(True):
        params, batch = problem(jnp.float64)
        outputs = params.decoder.outputs
        sunk = outputs._replace(bias=outputs.bias + jnp.array([0.0, -200.0]))
        low = params._replace(decoder=params.decoder._replace(outputs=sunk))
        z = jnp.zeros((FUNCTIONS, SPEC.latent))
        both = [forward(p, batch.contexts, batch.targets.points, latent=z) for p in (params, low)]
        at_targets, floor = jax.tree.map(np.asarray, both)

    assert np.all(at_targets.scale >= 1e-3) and np.std(at_targets.scale) > 1e-3
    np.testing.assert_array_equal(floor.scale, 1e-3)
    np.testing.assert_array_equal(floor.mean, at_targets.mean)


@pytest.mark.parametrize(("q", "p"), [((0.3, 0.7), (-0.5, 1.2)), ((1.0, 2.0), (1.5, 0.4))])
def test_divergence_and_density_are_those_of_quadrature(q: Any, p: Any) -> None:
    def integrand(x: float) -> Any:
        return stats.norm.pdf(x, *q) * (stats.norm.logpdf(x, *q) - stats.norm.logpdf(x, *p))

    expected, _ = integrate.quad(integrand, q[0] - 12 * q[1], q[0] + 12 * q[1], epsabs=1e-12)
    with jax.enable_x64(True):
        normals = [Normal(jnp.full((2, 3), m), jnp.full((2, 3), s)) for m, s in (q, p)]
        value = kl_divergence(*normals)
        x = jnp.linspace(-2.0, 3.0, 6).reshape(2, 3)
        density = log_density(normals[0], x)

    np.testing.assert_allclose(value, 3 * expected, rtol=1e-8)
    np.testing.assert_allclose(density, stats.norm.logpdf(np.asarray(x), *q), rtol=1e-12)


def test_divergence_is_zero_for_equal_sets_only() -> None:
    with jax.enable_x64(True):
        params, batch = problem(jnp.float64)
        known, (points, values) = batch.contexts, batch.contexts
        one, two = latent_of(params, known), latent_of(params, Observations(points, -values))
        divergence = jax.jit(kl_divergence)
        same, ahead, back = (
            np.asarray(divergence(*p)) for p in ((one, one), (two, one), (one, two))
        )

    np.testing.assert_array_equal(same, np.zeros(FUNCTIONS))
    assert np.all(ahead > 1e-3) and np.all(back > 1e-3) and np.abs(ahead - back).min() > 1e-6


def test_draws_have_mean_and_scale_of_their_distribution() -> None:
    wide = Normal(jnp.array([1.0, -2.0]), jnp.array([0.5, 3.0]))
    keys = jax.random.split(jax.random.key(0), 20_000)
    draws = jax.jit(jax.vmap(partial(normal.sample, wide)))(keys)
    np.testing.assert_allclose(jnp.mean(draws, axis=0), wide.mean, atol=4 * 3 / math.sqrt(20_000))
    np.testing.assert_allclose(jnp.std(draws, axis=0), wide.scale, rtol=0.03)


@pytest.mark.parametrize("shape", [(400, 501), (200_001,)])
def test_dropout_keeps_the_mean_and_drops_at_its_rate(shape: tuple[int, ...]) -> None:
    x = jnp.full(shape, 2.0)
    drop = jax.jit(partial(dropout, rate=0.1))
    dropped, other = (np.asarray(drop(jax.random.key(k), x), np.float64) for k in (0, 1))
    noise = math.sqrt(0.1 * 0.9 / x.size)

    assert np.mean(dropped == 0) == pytest.approx(0.1, abs=4 * noise)
    assert np.mean(dropped) == pytest.approx(2.0, abs=4 * noise * 2 / 0.9)
    np.testing.assert_allclose(np.unique(dropped), [0.0, 2.0 / 0.9], rtol=1e-4)
    # Independent: two masks, and neighbours in one, which share a word, are 0 at once at 0.1^2.
    assert np.mean((dropped == 0) & (other == 0)) == pytest.approx(0.01, abs=0.002)
    pairs = (dropped[..., :-1] == 0) & (dropped[..., 1:] == 0)
    assert np.mean(pairs) == pytest.approx(0.01, abs=0.002)
    assert kept(jax.random.key(0), (3, 0), 0.1).shape == (3, 0)
    assert dropout(None, x, rate=0.1) is x and dropout(jax.random.key(2), x, rate=0.0) is x


@pytest.mark.slow
def test_dropout_of_the_network_is_a_matter_of_its_key() -> None:
    params, batch = problem(jnp.float32, spec=THIN)
    z = jnp.zeros((FUNCTIONS, SPEC.latent))
    small = THIN._replace(dropout=0.005)  # so that the network is nearly linear in it

    def mean_of(key: Any, spec: AnpSpec) -> Any:
        return anp(params, batch.contexts, batch.targets.points, spec=spec, latent=z, key=key).mean

    @jax.jit
    def means_of(key: Any) -> tuple[Any, Any, Any]:
        off, still = mean_of(None, THIN), mean_of(key, THIN._replace(dropout=0.0))
        keys = jax.random.split(jax.random.clone(key), 1000)
        return off, still, jax.vmap(partial(mean_of, spec=small))(keys)

    off, still, means = (np.asarray(x) for x in means_of(jax.random.key(0)))
    first = jax.random.split(jax.random.key(0), 1000)[0]
    again = jax.jit(partial(mean_of, spec=small))(first)

    np.testing.assert_allclose(still, off, atol=1e-6)
    spread = np.std(means, axis=0)
    assert np.all(spread > 1e-3)
    np.testing.assert_allclose(np.mean(means, axis=0), off, atol=0.3 * float(np.max(spread)))
    np.testing.assert_allclose(means[0], again, atol=1e-5)


@pytest.mark.parametrize("is_on", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_predictions_are_draws_of_the_latent_given_the_contexts(is_on: bool) -> None:
    params, batch = problem(jnp.float32, spec=THIN)
    predict = jax.jit(partial(predict_samples, spec=THIN, num_samples=4, dropout=is_on))
    draws = predict(params, batch.contexts, batch.targets.points, jax.random.key(3))
    key = jax.random.split(jax.random.key(3), 4)[2]  # of the third draw
    key_z, *masks = jax.random.split(key, 3) if is_on else (key, None, None)

    @jax.jit
    def third_draw(key_z: Any, masks: Any) -> Normal:
        z = normal.sample(encode_latent(params, batch.contexts, spec=THIN, key=masks[0]), key_z)
        return anp(params, batch.contexts, batch.targets.points, spec=THIN, latent=z, key=masks[1])

    expected = third_draw(key_z, masks)

    assert draws.mean.shape == draws.scale.shape == (4, FUNCTIONS, TARGETS)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x[2], y, atol=1e-5), draws, expected)
    assert jnp.all(jnp.std(draws.mean, axis=0) > 1e-4)


@pytest.mark.slow
def test_training_lowers_the_loss_for_several_seeds_at_once() -> None:
    spec, optimizer = SPEC._replace(latent=4, dropout=0.05), optax.adam(1e-2)
    spec = spec._replace(self_attention_layers=1, cross_attention_layers=1, decoder_layers=2)

    def functions(key: Any) -> AnpBatch:
        """Waves sin(a x + t) at random points."""
        key_a, key_points = jax.random.split(key)
        a = jax.random.uniform(key_a, (8, 1), minval=1.0, maxval=3.0)
        points = jax.random.uniform(key_points, (8, 20, 2))
        values = jnp.sin(a * points[..., 1] + points[..., 0])
        contexts = Observations(points[:, :10], values[:, :10])
        return AnpBatch(contexts, Observations(points[:, 10:], values[:, 10:]))

    def losses(key: Any) -> Any:
        key_init, key_test, key_steps = jax.random.split(key, 3)
        key_data, key_loss = jax.random.split(key_test)
        params, test = init_anp(key_init, spec=spec), functions(key_data)

        def step(state: Any, index: Any) -> Any:
            params, moments = state
            key_batch, key_step = jax.random.split(jax.random.fold_in(key_steps, index))
            gradient = jax.grad(negative_elbo)(params, functions(key_batch), key_step, spec=spec)
            updates, moments = optimizer.update(gradient, moments, params)
            return (optax.apply_updates(params, updates), moments), gradient

        state = (params, optimizer.init(params))
        (trained, _), gradients = jax.lax.scan(step, state, jnp.arange(60))
        finite = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(gradients)]
        used = [jnp.max(jnp.abs(x)) > 0 for x in jax.tree.leaves(gradients)]
        still = partial(negative_elbo, spec=spec._replace(dropout=0.0))
        both = jax.tree.map(lambda x, y: jnp.stack([x, y]), params, trained)
        before, after = jax.vmap(lambda p: still(p, test, key_loss))(both)
        return before, after, jnp.stack(finite).all(), jnp.stack(used).all()

    seeds = jax.random.split(jax.random.key(0), 3)
    before, after, finite, used = jax.jit(jax.vmap(losses))(seeds)

    assert jnp.all(finite) and jnp.all(used)  # no parameter is dead
    assert jnp.all(after < before - 20) and jnp.unique(after).size == 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"heads": 3}, r"heads is 3, expected a divisor of width 8"),
        ({"dropout": 1.0}, r"dropout is 1.0, expected 0 <= dropout < 1"),
        ({"cross_attention_layers": 0}, r"cross_attention_layers is 0, expected at least 1"),
        ({"min_scale": math.nan}, r"min_scale is nan, expected at least 0"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        init_anp(jax.random.key(0), spec=SPEC._replace(**fields))
