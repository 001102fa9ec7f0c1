"""Makes the embedded sample from Debian's package dataset-fashion-mnist.

    python -m common.data.sample.make_sample [SOURCE [OUT]]

SOURCE is the folder with the four .gz files (Debian's), OUT where to write (this folder). Takes
the first 1,000 training and the first 200 test images of each class, in their order, and checks
the SHA-256 of the source before and of the result after.
"""

import hashlib
import lzma
import struct
import sys
from pathlib import Path

import numpy as np
from absl import logging

from common.data.catalogue import FASHION_MNIST, IDX_FILES, SAMPLE_SHA256
from common.data.formats import read_idx
from common.data.images import DEBIAN_FOLDER, balanced_indices
from common.errors import DataError
from common.files.storage import storage_errors

TRAIN_PER_CLASS = 1_000
TEST_PER_CLASS = 200


def idx_bytes(array: np.ndarray) -> bytes:
    """Returns a uint8 array as an IDX file."""
    header = struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape)
    return header + np.ascontiguousarray(array).tobytes()


def make_sample(source: Path) -> dict[str, bytes]:
    """Returns the decompressed IDX files of the sample by name.

    Raises:
        DataError: If the source is not the published Fashion-MNIST.
    """
    contents = {}
    sums = [download.content_sha256 for download in FASHION_MNIST.downloads]
    for first, per_class in ((0, TRAIN_PER_CLASS), (2, TEST_PER_CLASS)):
        images, labels = (
            read_idx(source / f"{IDX_FILES[i]}.gz", sha256=sums[i]) for i in (first, first + 1)
        )
        chosen = balanced_indices(labels, per_class=per_class)
        contents[IDX_FILES[first]] = idx_bytes(images[chosen])
        contents[IDX_FILES[first + 1]] = idx_bytes(labels[chosen])
    return contents


def write_sample(source: Path, folder: Path) -> None:
    """Packs the four files of the sample into `folder`.

    Raises:
        DataError: If source or result are not what they were.
    """
    for name, content in make_sample(source).items():
        checksum = hashlib.sha256(content).hexdigest()
        if checksum != SAMPLE_SHA256[name]:
            raise DataError(f"{name}: made sha256 {checksum}, wanted {SAMPLE_SHA256[name]}")
        packed = lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)
        with storage_errors(folder):
            (folder / f"{name}.xz").write_bytes(packed)
        logging.info("%s.xz: %d bytes, content sha256 %s", name, len(packed), checksum)


if __name__ == "__main__":
    logging.set_verbosity(logging.INFO)
    paths = [Path(arg) for arg in sys.argv[1:]]
    try:
        write_sample(*paths, *(DEBIAN_FOLDER, Path(__file__).parent)[len(paths) :])
    except DataError as error:
        logging.error(error)
        sys.exit(error.exit_code)
