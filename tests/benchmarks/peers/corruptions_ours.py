"""The cases of `corruptions_vs_reference` on our side: a batch of images at severity 3."""

from functools import partial

import jax
import numpy as np

from finetune.corruptions.apply import ON_HOST, PURE, corrupt
from finetune.corruptions.parameters import CIFAR_C
from tests.benchmarks.peers.corruption_cases import image
from tests.benchmarks.peers.timed_cases import Case, serve

BATCH = 128  # of `corrupt`, for images of 32 x 32


def timed(name: str) -> Case:
    """Returns the case of one corruption: from uint8 to uint8, arrays of NumPy on both ends."""
    images = np.stack([image(number) for number in range(BATCH)])
    return Case(lambda: corrupt(images, name, 3), units=BATCH)


def main() -> None:
    pure = [name for name in CIFAR_C if name in PURE]
    facts = {"jax": jax.__version__, "pure": pure, "host": [*ON_HOST]}
    serve({name: partial(timed, name) for name in CIFAR_C}, facts)


if __name__ == "__main__":
    main()
