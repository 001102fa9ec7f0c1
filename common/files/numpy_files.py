"""Arrays in NumPy's format that others may have made: no code is run, no memory taken on trust.

`np.load` allocates what a header declares before it looks for the bytes.
"""

import io
import math
import warnings
import zipfile

import numpy as np

# Members of an archive may together have this much, or so many times the bytes of the archive.
FREE_BYTES, MOST_TIMES = 1 << 30, 50


def read_npy(content: bytes) -> np.ndarray:
    """Returns the array of an `.npy` file.

    Raises:
        ValueError: If it is none, holds Python objects, or other bytes than its header declares.
    """
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"it has version {version[0]}.{version[1]} of the format, expected 1.0")
    name = "read_array_header_1_0" if version[0] == 1 else "read_array_header_2_0"
    with warnings.catch_warnings(action="ignore"):  # of Python, about what looks like code
        try:
            shape, is_fortran, dtype = getattr(np.lib.format, name)(stream)
        except Exception as error:  # besides ValueError some of Python's tokenizer and of NumPy's C
            raise ValueError(f"its header is none: {_line(error)}") from error
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are not unpickled")
    wanted, found = dtype.itemsize * math.prod(shape), len(content) - stream.tell()
    if any(side < 0 for side in shape) or wanted != found:
        raise ValueError(f"its header declares {wanted:,} bytes {shape}, it has {found:,}")
    flat = np.frombuffer(content, dtype, math.prod(shape), stream.tell()).copy()
    return flat.reshape(shape, order="F" if is_fortran else "C")


def check_sizes(archive: zipfile.ZipFile, size: int) -> None:
    """Refuses an archive of few bytes that would take all memory.

    Args:
        archive: What is about to be read.
        size: Its bytes.

    Raises:
        ValueError: If its members declare too much.
    """
    total = sum(member.file_size for member in archive.infolist())
    if total > max(FREE_BYTES, MOST_TIMES * size):
        raise ValueError(f"its {size:,} bytes would become {total:,}")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:100] or type(error).__name__
