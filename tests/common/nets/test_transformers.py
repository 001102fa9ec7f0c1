"""Transformers and Mixers: sizes of the published ones, formulas, and what permutations change."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from common.nets.features import features
from common.nets.mixer import Mixer, mixer
from common.nets.text_encoder import TextEncoder, text_encoder
from common.nets.transformer import PLACES, TransformerBlock, patches
from common.nets.vit import ViT, vit
from common.networks import from_linen
from tests.common.nets.counts import drawn, images, shapes_of, size

TEXT = jax.ShapeDtypeStruct((2, 32), jnp.int32)
HEADS = 2
TINY_VIT = ViT(patch=4, hidden=8, layers=1, heads=HEADS, mlp=12, num_classes=3)
TINY_MIXER = Mixer(patch=4, hidden=6, layers=1, tokens_mlp=5, mlp=7, num_classes=3)


def normal(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def affine(inputs: int, outputs: int) -> int:
    return (inputs + 1) * outputs


def block_size(d: int, mlp: int) -> int:
    """Returns two norms; queries, keys, values and outputs; an MLP of two layers."""
    return 4 * d + 4 * affine(d, d) + affine(d, mlp) + affine(mlp, d)


def mixer_block_size(tokens: int, tokens_mlp: int, d: int, mlp: int) -> int:
    mlps = affine(tokens, tokens_mlp) + affine(tokens_mlp, tokens) + affine(d, mlp) + affine(mlp, d)
    return 4 * d + mlps


# Module of one block, input, number of blocks, parameters of a block, and those of the published
# network with all blocks: patches, class token, positions, blocks, the last norm, head.
PUBLISHED = {
    # 590,592 + 768 + 197 * 768 + 12 * 7,087,872 + 1,536 + 769,000
    "ViT-B/16": (vit("B/16", layers=1), images(224), 12, block_size(768, 3072), 86_567_656),
    # 787,456 + 1,024 + 197 * 1,024 + 24 * 12,596,224 + 2,048 + 1,025,000
    "ViT-L/16": (vit("L/16", layers=1), images(224), 24, block_size(1024, 4096), 304_326_632),
    # 590,592 + 12 * 4,876,612 + 1,536 + 769,000: no class token, no positions
    "Mixer-B/16": (
        mixer("B/16", layers=1),
        images(224),
        12,
        mixer_block_size(196, 384, 768, 3072),
        59_880_472,
    ),
    # A 7 x 7 stem of 64 channels, 9,408 + 128, leaves 96 x 96 pixels of 384 x 384:
    # 786,624 + 192 + 145 * 192 + 12 * 444,864 + 384 + 193,000 behind it
    "R+Ti/16": (vit("R+Ti/16", layers=1), images(384), 12, block_size(192, 768), 6_355_944),
    # BERT-base-cased, 108,310,272, less 590,592 of its pooler and 1,536 of its token types
    "BERT-base": (
        text_encoder("BERT-base", layers=1),
        TEXT,
        12,
        block_size(768, 3072),
        108_310_272 - 590_592 - 1_536,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_those_of_the_published_networks(name: str) -> None:
    module, example, layers, block, expected = PUBLISHED[name]
    params, state = shapes_of(module, example)

    assert size(params["layer1"]) == block
    assert size(params) + (layers - 1) * block == expected
    assert state == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_whole_networks_have_the_published_sizes(name: str) -> None:
    module, example, layers, _, expected = PUBLISHED[name]
    assert size(shapes_of(module.clone(layers=layers), example)[0]) == expected


def standardized(x: Any, norm: Any, epsilon: float) -> Any:
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon)
    return x * norm["scale"] + norm["bias"]


def attended(x: Any, layer: Any, mask: Any) -> Any:
    """Returns multi-head attention, one head and one example after the other."""
    out = np.zeros_like(x) + layer["out"]["bias"]
    for head in range(HEADS):
        query, key, value = (
            x @ layer[name]["kernel"][:, head] + layer[name]["bias"][head]
            for name in ("query", "key", "value")
        )
        for example in range(len(x)):
            scores = query[example] @ key[example].T / math.sqrt(query.shape[-1])
            weights = np.exp(scores) * mask[example]
            weights /= weights.sum(1, keepdims=True)
            out[example] += weights @ value[example] @ layer["out"]["kernel"][head]
    return out


def gelu(x: Any, exact: bool) -> Any:
    if exact:
        return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2
    return x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


def block_by_hand(p: Any, x: Any, mask: Any, *, is_pre: bool, epsilon: float) -> dict[str, Any]:
    """Returns the values at every place, in float64."""
    first, second = (partial(standardized, norm=p[k], epsilon=epsilon) for k in ("norm1", "norm2"))
    at = {"preatt": x, "att": attended(first(x) if is_pre else x, p["attention"], mask)}
    at["premlp"] = x + at["att"] if is_pre else first(x + at["att"])
    read = second(at["premlp"]) if is_pre else at["premlp"]
    at["pregelu"] = read @ p["mlp_in"]["kernel"] + p["mlp_in"]["bias"]
    at["gelu"] = gelu(at["pregelu"], exact=not is_pre)
    at["mlp"] = at["gelu"] @ p["mlp_out"]["kernel"] + p["mlp_out"]["bias"]
    total = at["premlp"] + at["mlp"]
    return {**at, "res": total if is_pre else second(total)}


@pytest.mark.parametrize("order", ["pre", "post"])
def test_a_block_and_its_seven_places_are_the_formula(order: Any) -> None:
    is_pre = order == "pre"
    epsilon = 1e-6 if is_pre else 1e-2
    module = TransformerBlock(HEADS, 12, order=order, epsilon=epsilon, exact=not is_pre)
    x = normal(3, 5, 8)
    mask = np.ones((3, 5), bool) if is_pre else np.arange(5) < np.array([[5], [3], [1]])
    call = partial(module.apply, mutable=["features"])
    params = drawn_block(module, x)
    _, kept = jax.jit(call)({"params": params}, x, jnp.asarray(mask[:, None, None]))
    wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    expected = block_by_hand(wide, np.asarray(x, np.float64), mask, is_pre=is_pre, epsilon=epsilon)

    assert list(expected) == list(PLACES)
    for place in PLACES:
        # Numbers of size 1 to 10, through two normalizations in single precision.
        np.testing.assert_allclose(kept["features"][place], expected[place], rtol=1e-4, atol=1e-4)


def drawn_block(module: TransformerBlock, x: jax.Array) -> Any:
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)["params"]
    leaves, structure = jax.tree.flatten(shapes)
    draws = [normal(*leaf.shape, seed=i) / 2 for i, leaf in enumerate(leaves)]
    return jax.tree.unflatten(structure, draws)


def test_patches_are_what_a_convolution_of_their_size_and_stride_reads() -> None:
    x, kernel = normal(2, 6, 9, 2), normal(3, 3, 2, 4, seed=1)
    numbers = ("NHWC", "HWIO", "NHWC")
    conv = lax.conv_general_dilated(x, kernel, (3, 3), "VALID", dimension_numbers=numbers)

    # Sums of 18 numbers up to 10.
    np.testing.assert_allclose(
        patches(x, 3) @ kernel.reshape(-1, 4), conv.reshape(2, 6, 4), atol=1e-4
    )


IMAGES = normal(3, 8, 8, 2, seed=5)
ORDER = np.array([2, 0, 3, 1])  # of the four patches


def reordered(x: jax.Array) -> jax.Array:
    """Returns images with their 4x4 patches in another order."""
    squares = np.asarray(x).reshape(-1, 2, 4, 2, 4, 2).swapaxes(2, 3).reshape(-1, 4, 4, 4, 2)
    squares = squares[:, ORDER].reshape(-1, 2, 2, 4, 4, 2).swapaxes(2, 3)
    return jnp.asarray(squares.reshape(x.shape))


def moved_vit(params: Any) -> Any:
    """Returns the ViT that reads reordered patches; the class token stays where it is."""
    places = np.concatenate([[0], 1 + ORDER])
    return {**params, "positions": params["positions"][:, places]}


def moved_mixer(params: Any) -> Any:
    """Returns the Mixer that reads reordered patches: token MLPs with their ends reordered."""

    def block(p: Any) -> Any:
        first = {**p["tokens_in"], "kernel": p["tokens_in"]["kernel"][ORDER]}
        last = {name: leaf[..., ORDER] for name, leaf in p["tokens_out"].items()}
        return {**p, "tokens_in": first, "tokens_out": last}

    return {name: block(p) if name == "layer1" else p for name, p in params.items()}


@pytest.mark.parametrize(
    ("module", "moved"),
    [
        pytest.param(TINY_VIT, moved_vit, id="ViT"),
        pytest.param(TINY_MIXER, moved_mixer, id="Mixer", marks=pytest.mark.slow),
    ],
)
def test_patches_and_what_knows_their_places_may_be_reordered_together(
    module: Any, moved: Any
) -> None:
    network, narrow = (from_linen(m, IMAGES) for m in (module, module.clone(dtype="bfloat16")))
    params, _ = drawn(module, IMAGES)
    members = jax.tree.map(lambda *x: jnp.stack(x), params, moved(params), params)
    inputs = jnp.stack([IMAGES, reordered(IMAGES), reordered(IMAGES)])

    @jax.jit
    def all_of(members: Any, inputs: jax.Array) -> Any:
        def both(params: Any, x: jax.Array) -> Any:
            at = features(network, params, None, x, ["pooled"])["pooled"]
            return network.apply(params, x), at

        params, x = jax.tree.map(lambda leaf: leaf[0], (members, inputs))
        return *jax.vmap(both)(members, inputs), narrow.apply(params, x)

    (one, same, other), at, rough = all_of(members, inputs)
    logits = at[0] @ params["head"]["kernel"] + params["head"]["bias"][None]
    # A block in single precision, sums in another order; bfloat16 has 8 bits.
    size = np.abs(one).max()
    np.testing.assert_allclose(same, one, rtol=0, atol=1e-5 * size)
    assert np.abs(other - one).max() > 1e-2 * size
    np.testing.assert_allclose(logits, one, rtol=0, atol=1e-5 * size)
    assert rough.dtype == jnp.float32 and 0 < np.abs(rough - one).max() < 0.1 * size


def test_padding_is_not_looked_at_and_the_mean_is_over_all_positions() -> None:
    module = TextEncoder(9, hidden=8, layers=1, heads=HEADS, mlp=12, max_length=6, pad=0)
    tokens = jnp.array([[3, 4, 5, 0, 0], [3, 4, 5, 0, 0]], jnp.int32)
    params, _ = drawn(module, tokens)
    table = params["tokens"]["embedding"]
    members = jnp.stack([table, table.at[0].set(table[1])])  # another vector of padding
    network = from_linen(module, tokens)
    places = ("layer1/res", "pooled")

    def at(table: jax.Array) -> Any:
        changed = {**params, "tokens": {"embedding": table}}
        return features(network, changed, None, tokens, places, tokens="all")

    found = jax.jit(jax.vmap(at))(members)
    rows, changed = found["layer1/res"].reshape(2, 2, 5, 8)
    # One block in single precision.
    np.testing.assert_allclose(rows[:, :3], changed[:, :3], rtol=1e-5, atol=1e-5)
    assert np.abs(rows[:, 3:] - changed[:, 3:]).max() > 0.1
    np.testing.assert_allclose(found["pooled"][0], rows.mean(1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("module", "example", "match"),
    [
        (ViT(patch=5), images(8), "patch=5; expected a divisor of both sides of the images, 8 x 8"),
        (ViT(4, hidden=8, heads=3), images(8), "heads=3; expected a divisor of hidden=8"),
        (ViT(1, hidden=8, stem=40), images(8), "stem=40; expected a multiple of 32"),
        (Mixer(patch=0), images(8), "patch=0; expected a divisor"),
        (TextEncoder(max_length=16), TEXT, "texts of 32 tokens; expected at most max_length=16"),
    ],
)
def test_bad_fields_are_named(module: Any, example: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        shapes_of(module, example)


@pytest.mark.parametrize("function", [vit, mixer, text_encoder])
def test_an_unknown_size_is_refused(function: Any) -> None:
    with pytest.raises(ValueError, match=r"size='B/15'; expected one of .*B"):
        function("B/15")
