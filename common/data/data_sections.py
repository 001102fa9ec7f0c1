"""The section `config.data` of experiments on images, by data set; no JAX is needed."""

from typing import Any

IMAGES = ("cifar10", "cifar10_lossless", "fashion_mnist", "mnist")  # names that there are


def cifar10(*, num_train: int, num_test: int = 10_000) -> dict[str, Any]:
    """Returns the fields of CIFAR-10, which a user has or fetches."""
    return dict(
        images="cifar10", source="", size=32, channels=3, num_train=num_train, num_test=num_test
    )


def embedded(*, num_train: int, num_test: int = 2_000) -> dict[str, Any]:
    """Returns the fields of the embedded sample of Fashion-MNIST, averaged to 14 x 14 pixels."""
    return dict(
        images="fashion_mnist",
        source="embedded",
        size=14,
        channels=1,
        num_train=num_train,
        num_test=num_test,
    )
