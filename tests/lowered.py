"""Reading the StableHLO text of a lowered program."""

import math
import re

_CONSTANT = re.compile(r'dense<(?:"0x|\[).*?tensor<((?:\d+x)+)[a-z]+(\d+)>')


def largest_constant(text: str) -> int:
    """Returns the bytes of the largest array of different values that the text spells out."""
    sizes = [
        math.prod(int(n) for n in shape.split("x")[:-1]) * int(bits) // 8
        for shape, bits in _CONSTANT.findall(text)
    ]
    return max(sizes, default=0)
