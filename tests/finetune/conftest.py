"""What the tests of this topic share: the packaged images are unpacked once for all of them."""

from tests.unpacked import images_unpacked_once

__all__ = ["images_unpacked_once"]
