"""Adapting to single images: the marginal entropy, its step by hand, and the copies."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from finetune import augmix
from finetune.memo import marginal_entropy, memo

CLASSES = 4
ENTROPY = jax.jit(jax.value_and_grad(marginal_entropy))


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def test_the_marginal_entropy_is_that_of_the_mean_prediction() -> None:
    logits = np.random.default_rng(0).normal(size=(6, CLASSES)).astype(np.float32)
    mean = softmax(logits.astype(float)).mean(0)
    value, _ = ENTROPY(logits)
    np.testing.assert_allclose(value, -np.sum(mean * np.log(mean)), rtol=1e-5)
    # Copies that agree: the ordinary entropy, and its gradient -p (log p + H) / copies.
    p = softmax(logits[0].astype(float))
    value, slope = ENTROPY(np.tile(logits[:1], (6, 1)))
    own = -np.sum(p * np.log(p))
    np.testing.assert_allclose(value, own, rtol=1e-5)
    np.testing.assert_allclose(slope, np.tile(-p * (np.log(p) + own) / 6, (6, 1)), rtol=1e-4)
    np.testing.assert_allclose(ENTROPY(np.zeros_like(logits))[0], np.log(CLASSES), rtol=1e-6)


def test_the_marginal_entropy_of_sure_predictions_is_finite() -> None:
    """Two camps of copies, each sure: log 2; all of one mind: 0."""
    sure = 1e4 * np.eye(CLASSES, dtype=np.float32)
    value, slope = ENTROPY(sure[[0, 0, 0, 1, 1, 1]])
    np.testing.assert_allclose(value, np.log(2), rtol=1e-6)
    assert np.isfinite(slope).all()
    value, slope = ENTROPY(sure[[2] * 6])
    assert value == 0 and (slope == 0).all()


def linear(params: Any, images: Any) -> jax.Array:
    hidden = images.reshape(len(images), -1) @ params["low"]
    return hidden @ params["high"]


@pytest.fixture(scope="module")
def stream() -> tuple[Any, Any, Any, Any]:
    """Returns two parts of a network, images, and copies that are the image and its negative."""
    random = np.random.default_rng(1)
    draw = lambda *shape: random.normal(size=shape).astype(np.float32)
    copies = lambda key, image: jnp.stack([image, image, -image])
    low, high = draw(8, 3), draw(3, CLASSES)
    return {"low": low, "high": None}, {"low": None, "high": high}, draw(5, 2, 2, 2), copies


def test_a_step_of_memo_by_hand_episodic_and_online(stream: Any) -> None:
    """By the chain rule in float64: the tuned layer is the first of two linear ones."""
    tuned, frozen, images, copies = stream
    high = frozen["high"].astype(float)

    def by_hand(low: np.ndarray, image: np.ndarray) -> tuple[np.ndarray, float]:
        x = np.stack([image, image, -image]).reshape(3, -1).astype(float)
        p = softmax(x @ low @ high)
        mean = p.mean(0)
        entropy = -np.sum(mean * np.log(mean))
        slope = -(np.log(mean) + 1) / 3  # in the probabilities of a copy
        of_logits = p * (slope[None] - (p @ slope)[:, None])
        return low - 0.5 * x.T @ (of_logits @ high.T), entropy

    for online in (False, True):
        options: Any = {"key": jax.random.key(0), "learning_rate": 0.5, "augment": copies}
        found = jax.jit(memo(linear, online=online, **options))(tuned, frozen, images)
        low = tuned["low"].astype(float)
        for number, image in enumerate(images):
            after, entropy = by_hand(low, image)
            np.testing.assert_allclose(found.entropies[number], entropy, rtol=1e-4)
            scores = image.reshape(-1).astype(float) @ after @ high
            assert found.predictions[number] == np.argmax(scores)
            low = after if online else low
        # Five steps of float32; episodic weights are given back as they came.
        np.testing.assert_allclose(found.tuned["low"], low, rtol=1e-4, atol=1e-5)
        if not online:
            np.testing.assert_array_equal(found.tuned["low"], tuned["low"])
        assert found.tuned["high"] is None


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (12, 10, 3)).astype(np.float32) / 255


@jax.jit
def operated(image: jax.Array, level: Any, sign: Any) -> dict[str, jax.Array]:
    """Returns what every operation makes of an image, in one program."""
    return {name: apply(image, level, sign) for name, apply in augmix.OPERATIONS.items()}


def test_operations_are_those_of_their_definitions(image: np.ndarray) -> None:
    found = operated(image, jnp.float32(0), jnp.float32(1))
    for name in ("rotated", "sheared down", "sheared across", "moved down", "moved across"):
        np.testing.assert_allclose(found[name], image, atol=1e-6, err_msg=name)

    found = operated(image, jnp.float32(0.3), jnp.float32(1))
    stored = np.round(image * 255).astype(np.uint8)
    bits = np.round(np.asarray(found["posterized"]) * 255)
    np.testing.assert_array_equal(bits, stored & 0b11100000)  # 4 - int(1.2) bits
    np.testing.assert_allclose(found["solarized"], np.where(image < 0.7, image, 1 - image))
    low, high = image.min((0, 1), keepdims=True), image.max((0, 1), keepdims=True)
    np.testing.assert_allclose(found["stretched"], (image - low) / (high - low), atol=1e-6)
    # Down by floor(0.3 * 12 / 3) = 1 row, across by 0.3 * 10 / 3 = 1 column, 0 behind them.
    np.testing.assert_allclose(found["moved down"][:-1], image[1:], atol=1e-6)
    assert (np.asarray(found["moved down"][-1]) == 0).all()
    np.testing.assert_allclose(found["moved across"][:, :-1], image[:, 1:], atol=1e-6)
    # A channel by its histogram: how many values are lower, of those that are not the lowest.
    channel = stored[..., 0]
    below = np.array([(channel <= v).sum() for v in channel.ravel()]).reshape(channel.shape)
    lowest = (channel == channel.min()).sum()
    wanted = (below - lowest) / (channel.size - lowest)
    np.testing.assert_allclose(found["equalized"][..., 0], wanted, atol=1e-6)

    # A half turn, which is six times the largest one that is drawn.
    turned = np.asarray(operated(image, jnp.float32(6), jnp.float32(1))["rotated"])
    np.testing.assert_allclose(turned[1:-1, 1:-1], image[::-1, ::-1][1:-1, 1:-1], atol=1e-4)
    flat = operated(np.full_like(image, 0.4), jnp.float32(0), jnp.float32(1))
    for name in ("stretched", "equalized"):
        np.testing.assert_array_equal(flat[name], np.full_like(image, 0.4))


@pytest.mark.slow
def test_copies_differ_stay_in_range_and_come_again(image: np.ndarray) -> None:
    draw = jax.jit(lambda key, image: augmix.augmented(key, image, count=16))
    found = np.asarray(draw(jax.random.key(0), image))
    assert found.shape == (16, 12, 10, 3) and np.isfinite(found).all()
    assert found.min() >= -1e-6 and found.max() <= 1 + 1e-6
    assert len({copy.tobytes() for copy in found}) == 16
    np.testing.assert_array_equal(found, draw(jax.random.key(0), image))
    assert (found != draw(jax.random.key(1), image)).any()
