"""Names of arrays elsewhere, made those of a run."""

from typing import Any

import numpy as np
import pytest

from common.checkpoints import renames
from common.errors import UserError

RENAMES = (
    (r"layer(\d)\.(\d)\.conv\.weight", r"block_\1_\2/kernel", (2, 3, 1, 0)),
    (r"fc\.weight", "out/kernel", (1, 0)),
    (r".*num_batches_tracked", ""),
    (r"layer(\d)\..*", r"rest/\1"),
)


def test_the_first_regex_that_matches_a_whole_name_says_its_new_one() -> None:
    kernel = np.arange(24).reshape(1, 2, 3, 4)
    old = {
        "layer1.0.conv.weight": kernel,
        "my.fc.weight": np.ones((2, 3)),
        "fc.weight": np.ones((2, 3)),
        "bn.num_batches_tracked": np.array(7),
        "layer2.x": np.zeros(1),
    }

    new = renames.renamed(old, renames.parse(RENAMES))

    assert {name: array.shape for name, array in new.items()} == {
        "block_1_0/kernel": (3, 4, 2, 1),
        "my.fc.weight": (2, 3),
        "out/kernel": (3, 2),
        "rest/2": (1,),
    }
    assert new["block_1_0/kernel"][2, 3, 1, 0] == kernel[0, 1, 2, 3]


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("ab", "expected (regex, name) or (regex, name, axes)"),
        (("a",), "expected (regex, name)"),
        (("a", "b", (1.0, 0.0)), "expected (regex, name)"),
        (("(", "b"), "missing ), unterminated subpattern"),
        (("a", r"\1"), "invalid group reference 1"),
        (("a", "b", (1, 0)), "the axes (1, 0) of b do not fit a, which has the shape (3,)"),
        (("a", "c"), "a and c both become c"),
    ],
)
def test_a_rename_that_is_none_is_named(entry: Any, says: str) -> None:
    arrays = {"a": np.zeros(3), "c": np.zeros(3)}
    with pytest.raises(UserError) as caught:
        renames.renamed(arrays, renames.parse((("x", "y"), entry)))
    assert says in str(caught.value)
    assert str(caught.value).startswith("config.init_from_names")
