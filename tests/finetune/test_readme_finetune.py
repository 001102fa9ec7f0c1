"""The README of this topic does what it says, for a stranger's network."""

import re
from pathlib import Path
from typing import Any

import jax
import numpy as np

from finetune import strategies
from tests.processes import REPOSITORY

README = (REPOSITORY / "finetune/README.md").read_text()
(EXAMPLE,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
CLASSES = 3


def names_of(code: str) -> dict[str, Any]:
    """Returns what the example defines; it has 20 lines at most."""
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    names: dict[str, Any] = {}
    exec(code, names)
    return names


def test_the_readme_finds_the_block_and_tunes_it(tmp_path: Path) -> None:
    """Flipped labels of a network that was right: only the last layer has to change."""
    names, random = names_of(EXAMPLE), np.random.default_rng(0)
    draw = lambda *shape: random.normal(size=shape).astype(np.float32)
    params = {
        "kernel_0": draw(4, 16),
        "bias_0": 0.1 * draw(16),
        "kernel_1": 0.1 * draw(16, CLASSES),
    }

    def pairs(count: int, *, flipped: bool = True) -> tuple[np.ndarray, np.ndarray]:
        x = draw(count, 4)
        labels = np.argmax(logits(params, x), axis=-1)
        return x, CLASSES - 1 - labels if flipped else labels

    sets = (pairs(32, flipped=False), pairs(32), pairs(40), pairs(200))
    found, adapted = names["operate"](params, *sets, tmp_path / "report.png")

    assert found.block == found.blocks.names[int(np.argmax(found.relative["rgn"]))] == "last"
    assert (tmp_path / "report.png").is_file()
    for name in ("kernel_0", "bias_0"):
        assert np.asarray(adapted.params[name]).tobytes() == params[name].tobytes()
    right = np.mean(np.argmax(logits(adapted.params, sets[3][0]), axis=-1) == sets[3][1])
    np.testing.assert_allclose(adapted.score, right, rtol=1e-6)
    # Only the middle class was right before; a handful of epochs on 32 examples find the flip.
    assert adapted.start[1] < 0.5 < adapted.score


def test_the_words_of_the_readme_are_strategies() -> None:
    words = set(re.findall(r'`"(\w+)"`', README))
    assert set(strategies.NAMED) <= words | {"auto_rgn"}


def logits(params: Any, x: np.ndarray) -> np.ndarray:
    params = jax.tree.map(np.asarray, params)
    return np.tanh(x @ params["kernel_0"] + params["bias_0"][None]) @ params["kernel_1"]
