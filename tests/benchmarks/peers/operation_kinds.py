"""What an operation of a compiled program is, by its name; a fusion is called by what is in it."""

PRODUCTS = ("dot", "ynn_fusion", "conv_general_dilated", "convolution", "custom-call")
LOOPS = ("while", "call", "conditional")
MOVES = frozenset(
    [
        *("bitcast", "broadcast", "concatenate", "copy", "dynamic", "element", "gather", "get"),
        *("iota", "pad", "reverse", "scatter", "select", "slice", "transpose", "tuple", "update"),
    ]
)


def kind_of(operation: str) -> str:
    """Returns the kind of an operation: products, loops, sums, copies or elementwise.

    Copies are those that compute nothing; a fusion with a sum in it is one of the sums.
    """
    name = operation.split(".")[0].removeprefix("wrapped_")
    if name.startswith(PRODUCTS):
        return "products"
    if name.startswith(LOOPS):
        return "loops"
    words = set(name.replace("-", "_").split("_")) - {"fusion"}
    if "reduce" in words:
        return "sums"
    return "copies" if words <= MOVES else "elementwise"
