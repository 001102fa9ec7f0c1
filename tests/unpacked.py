"""Packaged images are unpacked once for all tests of a topic that asks for it."""

import os
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from common.data import image_sets, images


@pytest.fixture(scope="session", autouse=True)
def images_unpacked_once() -> Iterator[None]:
    """Half a second of CPU time each otherwise; their arrays cannot be written to."""

    @cache
    def of_folder(folder: str | None, *place: Any) -> images.ImageSet:
        del folder
        return images.load_images(*place)

    def load(*place: Any) -> images.ImageSet:
        return of_folder(os.environ.get("DATA_DIR"), *place)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_sets, "load_images", load)
        yield
