"""Members, their bootstrap and their penalty; normalized rewards; the ring of labels."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf import buffer, ensemble, l2_controller, normalizer, reward_model
from rlhf.ensemble import Fit, Labels

SIZE, MEMBERS, LENGTH = 64, 3, 4


def rows(number: int, seed: int = 0) -> Labels:
    """Returns labels whose clips have one feature, preferred where its sum is larger."""
    random = np.random.default_rng(seed)
    clips = random.normal(size=(number, 2, LENGTH, 1)).astype(np.float32)
    sums = clips.sum(axis=(2, 3))
    preferred = (sums[:, 0] > sums[:, 1]).astype(np.float32)
    weights = ensemble.bootstrap_weights(jax.random.key(seed), number, MEMBERS)
    return Labels(clips, preferred, sums, weights)


def filled(labels: Labels, size: int = SIZE) -> buffer.Buffer:
    """Returns a buffer with these labels."""
    start = buffer.empty(jax.tree.map(lambda x: x[0], labels), size)
    return jax.tree.map(
        jnp.asarray, buffer.add(start, labels, jnp.ones(len(labels.preferred), bool))
    )


def linear(params: Any, model_state: Any, clips: Any, key: Any) -> tuple[jax.Array, Any]:
    del key
    return clips[..., 0] * params, model_state


HOW = Fit(linear, ensemble.preference_loss(0.1), optax.adam(0.05), 16, 4, 5)
fit = jax.jit(
    lambda key, start, labels, factor: ensemble.fit(key, start, HOW, labels, factor=factor)
)
report = jax.jit(lambda start, labels: ensemble.report(start, HOW, labels))


def start(coefficient: float = 0.01) -> ensemble.Ensemble:
    draw = lambda key: 0.1 * jax.random.normal(key, ())
    return ensemble.init_ensemble(
        jax.random.key(5), draw, HOW.optimizer, members=MEMBERS, coefficient=coefficient
    )


def test_bootstrap_leaves_out_one_label_in_e() -> None:
    weights = np.asarray(ensemble.bootstrap_weights(jax.random.key(0), 20_000, 3))
    share = np.mean(weights == 0)
    error = np.sqrt(np.exp(-1) * (1 - np.exp(-1)) / weights.size)

    assert abs(share - np.exp(-1)) < 3 * error
    assert np.mean(weights) == pytest.approx(1.0, abs=4 / np.sqrt(weights.size))
    assert np.var(weights) == pytest.approx(1.0, abs=0.03)
    factorials = np.array([1, 1, 2, 6, 24])
    counts = np.bincount(weights.astype(int).ravel(), minlength=5)[:5]
    expected = weights.size * np.exp(-1) / factorials
    assert (np.abs(counts - expected) < 4.5 * np.sqrt(expected)).all()


def test_no_label_is_on_both_sides_and_none_changes_side() -> None:
    labels = rows(40)
    first = filled(labels)
    later = buffer.add(first, rows(20, seed=1), jnp.ones(20, bool))
    held = np.asarray(buffer.is_held(first))
    before, after = (np.asarray(x.rows.weights) for x in (first, later))

    assert held.sum() == 40
    np.testing.assert_array_equal(before[:40], after[:40])  # drawn once, when they arrived
    in_bag, out_of_bag = before[:40] > 0, before[:40] == 0
    assert not (in_bag & out_of_bag).any()
    assert (in_bag | out_of_bag).all()
    assert 0 < out_of_bag[:, 0].sum() < 40


def brute_losses(params: np.ndarray, labels: Labels, copies: int = 1) -> tuple[list, list]:
    """Returns mean losses in-bag and out-of-bag of each member, label by label."""
    train, valid = [], []
    for member in range(MEMBERS):
        inside, outside = [], []
        for row in range(len(labels.preferred)):
            sums = params[member] * labels.clips[row].sum(axis=(1, 2))
            chance = 0.05 + 0.9 / (1 + np.exp(-(sums[0] - sums[1])))
            loss = -np.log(chance if labels.preferred[row] == 1 else 1 - chance)
            weight = int(labels.weights[row, member])
            inside += [loss] * weight
            outside += [loss] * (copies if weight == 0 else 0)
        train.append(np.mean(inside))
        valid.append(np.mean(outside))
    return train, valid


def test_losses_are_means_so_twice_the_validation_set_changes_nothing() -> None:
    labels, members = rows(30), start()
    found = report(members, filled(labels))
    train, valid = brute_losses(np.asarray(members.train.params), labels)
    np.testing.assert_allclose(found.train_loss, train, rtol=1e-5)
    np.testing.assert_allclose(found.valid_loss, valid, rtol=1e-5)

    # Member 0's out-of-bag labels once more, in the bag of nobody else: sums would double.
    again = np.asarray(labels.weights)[:, 0] == 0
    twice = jax.tree.map(lambda x: np.concatenate([x, x[again]]), labels)
    doubled = report(members, filled(twice))
    assert doubled.train_loss[0] == pytest.approx(float(found.train_loss[0]), rel=1e-5)
    assert doubled.valid_loss[0] == pytest.approx(float(found.valid_loss[0]), rel=1e-5)


def test_a_coin_flip_has_a_ratio_of_one() -> None:
    labels = rows(60)
    coin = np.random.default_rng(3).integers(0, 2, 60).astype(np.float32)
    found = report(start(), filled(labels._replace(preferred=jnp.asarray(coin))))

    # Untrained members on coin flips: nothing to overfit yet. Sums of losses would give 0.6.
    ratio = np.asarray(found.valid_loss / found.train_loss)
    np.testing.assert_allclose(ratio, 1.0, atol=0.15)


def test_the_penalty_follows_the_ratio() -> None:
    ratios = jnp.array([1.0, 1.3, 2.0, jnp.nan])
    moved = l2_controller.adjust(jnp.full(4, 0.02), jnp.ones(4), ratios)
    np.testing.assert_allclose(moved, [0.018, 0.02, 0.022, 0.02], rtol=1e-5)

    ends = jnp.array([1e-8, 1.0])
    held = l2_controller.adjust(ends, jnp.ones(2), jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(held, ends, rtol=1e-6)
    off = l2_controller.adjust(jnp.zeros(2), jnp.ones(2), jnp.array([1.0, 2.0]))
    assert np.asarray(off).tolist() == [0.0, 0.0]
    still = l2_controller.adjust(jnp.full(2, 0.02), jnp.ones(2), jnp.array([1.0, 2.0]), factor=0.0)
    np.testing.assert_allclose(still, 0.02, rtol=1e-6)


def test_members_learn_the_sign_and_the_penalty_moves_within_a_fit() -> None:
    labels = filled(rows(60))
    members, found = fit(jax.random.key(1), start(), labels, 0.1)

    assert (np.asarray(members.train.params) > 0.1).all()
    assert np.ptp(np.asarray(members.train.params)) > 0  # each from labels of its own
    assert (np.asarray(found.accuracy) == 1.0).all()
    assert (np.asarray(members.coefficient) != np.float32(0.01)).any()
    frozen, _ = fit(jax.random.key(1), start(), labels, 0.0)
    np.testing.assert_allclose(frozen.coefficient, 0.01)


def test_without_labels_nothing_is_learned() -> None:
    nothing = buffer.empty(jax.tree.map(lambda x: x[0], rows(2)), SIZE)
    members, found = fit(jax.random.key(1), start(), nothing, 0.1)

    np.testing.assert_array_equal(members.train.params, start().train.params)
    assert np.isnan(found.valid_loss).all()
    with pytest.raises(ValueError, match="an ensemble of 0 members: expected at least 1"):
        ensemble.init_ensemble(
            jax.random.key(0), lambda k: k, HOW.optimizer, members=0, coefficient=0.0
        )


def test_targets_are_fitted_in_their_scale() -> None:
    labels = rows(3)
    sums = labels.clips.sum(axis=(2, 3))
    rewards = jnp.asarray(labels.clips[..., 0])
    loss = ensemble.target_loss(1.0, 2.0)(rewards, labels._replace(targets=jnp.asarray(3 * sums)))

    np.testing.assert_allclose(loss, np.mean((sums - (3 * sums - 1) / 2) ** 2, axis=1), rtol=1e-4)


@jax.jit
def normalized(outputs: Any, target: Any, memory: Any) -> Any:
    """Returns rewards of two batches, one after the other, and the normalizer then."""
    weights = jnp.ones(outputs.shape[0])
    half = outputs.shape[1] // 2
    state = normalizer.init_normalizer(outputs.shape[0])
    options = {"target": target, "memory": memory}
    first, state = normalizer.normalize(state, outputs[:, :half], weights, **options)
    second, state = normalizer.normalize(state, outputs[:, half:], weights, **options)
    return first, second, state


def test_rewards_have_mean_zero_and_the_wanted_deviation() -> None:
    outputs = np.random.default_rng(0).normal(size=(3, 200)).astype(np.float32)
    outputs = outputs * np.array([[1.0], [100.0], [0.01]], np.float32) + 5
    for target in (1.0, 0.05):
        rewards = np.concatenate(normalized(jnp.asarray(outputs), target, 0.0)[:2])
        for half in np.split(rewards, 2):
            assert abs(half.mean()) < 1e-5
            assert half.std() == pytest.approx(target, rel=1e-5)
    moved = outputs * np.array([[7.0], [0.1], [3.0]], np.float32) - 2  # a member's own a r + b
    again = np.concatenate(normalized(jnp.asarray(moved), 0.05, 0.0)[:2])
    # float32, and 1e-8 beside a deviation of 0.01: six digits of the deviation at the least.
    np.testing.assert_allclose(again, rewards, atol=1e-5)


def test_moments_of_parts_are_those_of_the_whole() -> None:
    outputs = np.random.default_rng(1).normal(3, 2, size=(3, 200)).astype(np.float32)
    _, _, state = normalized(jnp.asarray(outputs), 1.0, 1.0)

    np.testing.assert_allclose(state.members.mean, outputs.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(state.members.variance, outputs.var(axis=1), rtol=1e-5)
    assert float(state.members.count) == 200


def test_the_ring_forgets_the_oldest_label() -> None:
    ring = buffer.empty({"number": jax.ShapeDtypeStruct((), jnp.int32)}, 3_000)
    add = jax.jit(buffer.add)
    for first in range(0, 3_000, 1_000):
        ring = add(ring, {"number": jnp.arange(first, first + 1_000)}, jnp.ones(1_000, bool))
    assert np.asarray(ring.rows["number"]).tolist() == list(range(3_000))

    is_new = jnp.arange(1_000) == 500  # one of a thousand
    ring = add(ring, {"number": jnp.full(1_000, 3_000)}, is_new)
    held = np.asarray(ring.rows["number"])
    assert 0 not in held
    assert sorted(held) == list(range(1, 3_001))
    assert int(ring.count) == 3_001
    assert np.asarray(buffer.is_held(ring)).all()
    small = buffer.empty({"number": jax.ShapeDtypeStruct((), jnp.int32)}, 2)
    with pytest.raises(ValueError, match="5 labels at once for a buffer of 2: expected at most 2"):
        buffer.add(small, {"number": jnp.zeros(5, int)}, jnp.ones(5, bool))
    with pytest.raises(ValueError, match="a label buffer of 0 labels"):
        buffer.empty({"number": jnp.zeros(())}, 0)


def test_labels_are_drawn_in_proportion_to_their_weights() -> None:
    weights = jnp.array([0.0, 1.0, 0.0, 3.0, 0.0])
    places, total = buffer.draw(jax.random.key(0), weights, 8_000)
    counts = np.bincount(places, minlength=5)

    assert float(total) == 4.0
    assert counts[[0, 2, 4]].sum() == 0
    assert abs(counts[3] - 6_000) < 5 * np.sqrt(8_000 * 3 / 16)


def test_reward_models_have_the_size_of_the_paper() -> None:
    hopper = jax.eval_shape(
        lambda key: reward_model.init_vector_reward(key, inputs=11 + 3), jax.random.key(0)
    )
    atari = jax.eval_shape(
        lambda key: reward_model.init_image_reward(key, side=84, channels=4), jax.random.key(0)
    )

    assert reward_model.size_of(hopper) == 5185
    assert reward_model.size_of(atari) == 64_513
    assert reward_model.map_sizes(84) == (26, 11, 9, 7)
    with pytest.raises(ValueError, match="images of 10 x 10 are too small"):
        reward_model.map_sizes(10)


LAYERS = ((4, 3, 2), (8, 2, 1))


def by_hand(params: Any, images: np.ndarray, norm: str, statistics: Any) -> Any:
    """Returns rewards and moments behind every convolution, patch by patch; 4 groups of channels.

    Channels are normalized by `statistics` if there are any, else by their own moments.
    """
    x, found = images, []
    for number, ((kernel, bias), (_, width, stride)) in enumerate(
        zip(params.kernels, LAYERS, strict=True)
    ):
        side = (x.shape[1] - width) // stride + 1
        out = np.zeros((len(x), side, side, kernel.shape[-1]))
        for i in range(side):
            for j in range(side):
                patch = x[:, i * stride : i * stride + width, j * stride : j * stride + width]
                out[:, i, j] = np.einsum("nhwc,hwco->no", patch, kernel) + np.asarray(bias)[None]
        found.append((out.mean((0, 1, 2)), out.var((0, 1, 2))))
        if norm == "group":
            for first in range(0, out.shape[-1], out.shape[-1] // 4):
                group = out[..., first : first + out.shape[-1] // 4]
                mean, var = (f(group, (1, 2, 3), keepdims=True) for f in (np.mean, np.var))
                group[...] = (group - mean) / np.sqrt(var + 1e-5)
        if norm == "batch":
            mean, var = statistics[number] if statistics else found[-1]
            for channel in range(out.shape[-1]):
                scale = 1 / np.sqrt(var[channel] + 1e-5)
                out[..., channel] = (out[..., channel] - mean[channel]) * scale
        if norm != "none":
            for channel, (scale, shift) in enumerate(zip(*params.norms[number], strict=True)):
                out[..., channel] = scale * out[..., channel] + shift
        x = np.where(out > 0, out, 0.01 * out)
    x = x.reshape(len(x), -1) @ params.hidden.kernel + np.asarray(params.hidden.bias)[None]
    x = np.where(x > 0, x, 0.01 * x)
    return (x @ params.out.kernel)[:, 0] + params.out.bias, found


@pytest.mark.parametrize(
    "norm",
    [pytest.param(x, marks=[pytest.mark.slow] * (x != "batch")) for x in reward_model.NORMS],
)
def test_rewards_of_images_are_convolutions_by_hand(norm: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 2, 8, 8, 2)).astype(np.uint8)

    @jax.jit
    def run(key: jax.Array, images: jax.Array) -> Any:
        params = reward_model.init_image_reward(
            key, side=8, channels=2, layers=LAYERS, hidden=5, norm=norm
        )
        moved = jax.tree.map(lambda x: x + 0.3, params.norms)  # away from 1 and 0
        params = params._replace(norms=moved)
        start = reward_model.init_statistics(LAYERS, norm)
        shown = partial(reward_model.image_reward, params, strides=(2, 1), norm=norm)
        trained, after = shown(start, images, key=key)
        return params, trained, after, *shown(after, images)

    params, trained, after, judged, kept = jax.device_get(run(jax.random.key(0), images))
    numbers = images.reshape(6, 8, 8, 2) / 255
    wanted, of_batch = by_hand(params, numbers, norm, ())

    np.testing.assert_allclose(trained.reshape(-1), wanted, rtol=1e-4, atol=1e-5)
    assert trained.shape == (3, 2)  # both clips of all pairs are one batch
    if norm == "batch":  # a tenth of the way from 0 and 1 to the moments of the batch
        for (mean, var), (of_mean, of_var) in zip(after, of_batch, strict=True):
            np.testing.assert_allclose(mean, 0.1 * of_mean, rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(var, 0.9 + 0.1 * of_var, rtol=1e-4)
        jax.tree.map(np.testing.assert_array_equal, kept, after)
        wanted, _ = by_hand(params, numbers, norm, after)
    np.testing.assert_allclose(judged.reshape(-1), wanted, rtol=1e-4, atol=1e-5)
    penalty = sum(np.sum(np.asarray(x) ** 2) for x in jax.tree.leaves(params) if x.ndim > 1)
    assert float(reward_model.squared_weights(params)) == pytest.approx(penalty, rel=1e-5)


def test_an_unknown_normalization_is_refused() -> None:
    with pytest.raises(ValueError, match="norm='layer': .* allowed: none, batch, group"):
        reward_model.init_statistics(LAYERS, "layer")
