"""The reference package for corruptions, with the constants of CIFAR-10-C in place of ImageNet's.

    python -m venv peer && peer/bin/pip install imagecorruptions-imaug==1.1.5 "setuptools<81"
    cd tests/benchmarks/peers && ../../../peer/bin/python corruptions_reference.py GOLDEN.npz

Runs in the peer's environment with this folder as working directory. Without an argument it serves
`corruptions_vs_reference`. The package's own functions run, as they are but for the numbers: the
first assignment to each name below gets another right-hand side. What the package lacks of the code
that made CIFAR-10-C is added here: the affine map before the elastic displacement, and that the
middle of what was enlarged is kept.
"""

import ast
import inspect
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import corruption_cases as cases  # pyrefly: ignore
import cv2  # pyrefly: ignore
import numpy as np
import PIL
from imagecorruptions import corruptions as package  # pyrefly: ignore
from PIL import Image
from timed_cases import Case, serve  # pyrefly: ignore

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
from finetune.corruptions import parameters as p  # NumPy only

cv2.setNumThreads(1)
LISTS = {
    "gaussian_noise": p.GAUSSIAN_NOISE,
    "shot_noise": p.SHOT_NOISE,
    "impulse_noise": p.IMPULSE_NOISE,
    "speckle_noise": p.SPECKLE_NOISE,
    "gaussian_blur": p.GAUSSIAN_BLUR,
    "glass_blur": tuple((glass.sigma, 1, glass.rounds) for glass in p.GLASS_BLUR),
    "defocus_blur": p.DEFOCUS_BLUR,
    "motion_blur": p.MOTION_BLUR,
    "zoom_blur": p.ZOOM_BLUR,
    "snow": tuple((*snow[:4], *snow.motion, snow.mix) for snow in p.SNOW),
    "frost": p.FROST,
    "fog": p.FOG,
    "spatter": p.SPATTER,
    "brightness": p.BRIGHTNESS,
    "contrast": p.CONTRAST,
    "saturate": p.SATURATE,
    "jpeg_compression": p.JPEG_QUALITY,
    "pixelate": p.PIXELATE,
}
# Other assignments, as expressions in the function's own names.
EXPRESSIONS = {
    "frost": {
        "frost_rescaled": f"cv2.resize(frost, (0, 0), fx={p.FROST_SCALE}, fy={p.FROST_SCALE})"
    },
    "elastic_transform": {
        "sigma": f"{tuple(entry.sigma for entry in p.ELASTIC)}[severity - 1] * shape[0]",
        "alpha": f"{tuple(entry.amount for entry in p.ELASTIC)}[severity - 1] * shape[0]",
        "max_dx": "1",
        "max_dy": "1",
    },
}


class Assignments(ast.NodeTransformer):
    """Replaces what is assigned first to each of these names."""

    def __init__(self, values: dict[str, str]):
        self.values = dict(values)

    def visit_Assign(self, node: ast.Assign) -> ast.Assign:
        target = node.targets[0]
        if isinstance(target, ast.Name) and target.id in self.values:
            node.value = ast.parse(self.values.pop(target.id), mode="eval").body
        return node


def overridden(name: str) -> Callable[..., Any]:
    """Returns a function of the package with the constants of CIFAR-10-C."""
    values = dict(EXPRESSIONS.get(name, {}))
    if name in LISTS:
        values["c"] = f"_cifar[{name!r}][severity - 1]"
    tree = ast.parse(inspect.getsource(getattr(package, name)))
    change = Assignments(values)
    code = compile(ast.fix_missing_locations(change.visit(tree)), f"<{name}>", "exec")
    assert not change.values, f"{name} assigns no {[*change.values]}"
    package._cifar = LISTS
    exec(code, package.__dict__)
    return getattr(package, name)


FUNCTIONS = {name: overridden(name) for name in p.CIFAR_C}


def affine(image: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Returns an image whose three points were moved, right and down, by OpenCV."""
    height, width = image.shape[:2]
    center, side = np.array([width // 2, height // 2]), min(height, width) // 3
    points = (center + side * np.array([[1, 1], [1, -1], [-1, -1]])).astype(np.float32)
    matrix = cv2.getAffineTransform(points, points + moves.astype(np.float32))
    return cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)


def corrupted(name: str, image: np.ndarray, severity: int) -> np.ndarray:
    """Returns what the package makes of an image, with NumPy's random numbers as they come."""
    source: Any = Image.fromarray(image)
    if name == "elastic_transform":
        reach = p.ELASTIC[severity - 1].affine * image.shape[0]
        moves = np.random.uniform(-reach, reach, (3, 2))  # noqa: NPY002
        # The package divides by 255 what it gets; a float image is not rounded in between.
        source = affine(image.astype(np.float32) / 255, moves) * 255
    return np.asarray(FUNCTIONS[name](source, severity)).astype(np.uint8)


def middle_zoomed(image: np.ndarray, zoom: float) -> np.ndarray:
    """Returns the middle of what the package's zoom returns, as the code for CIFAR-10-C does."""
    whole = package_zoom(image, zoom)
    top, left = (
        max(0, (new - old) // 2) for new, old in zip(whole.shape[:2], image.shape[:2], strict=True)
    )
    return whole[top : top + image.shape[0], left : left + image.shape[1]]


package_zoom, package.clipped_zoom = package.clipped_zoom, middle_zoomed


class Numbers:
    """Stands for NumPy's random functions and returns given unit numbers, in turn."""

    def __init__(self, **numbers: list[Any]):
        self.numbers = numbers

    def uniform(self, low: float = 0.0, high: float = 1.0, size: Any = None) -> Any:
        return low + (high - low) * self._next("uniform", size)

    def normal(self, loc: float = 0.0, scale: float = 1.0, size: Any = None) -> Any:
        return loc + scale * self._next("normal", size)

    def randint(self, low: int, high: int | None = None, size: Any = None) -> Any:
        return self._next("randint", size)

    def seed(self, seed: Any) -> None: ...

    def _next(self, kind: str, size: Any) -> Any:
        number = self.numbers[kind].pop(0)
        return number if size is None else np.asarray(number).reshape(size)


def plasma_order(noise: np.ndarray) -> list[np.ndarray]:
    """Returns the numbers of [-1, 1] of a plasma in the order of the package, as units."""
    unit, step, parts = (noise + 1) / 2, len(noise), []
    while step >= 2:
        half = step // 2
        parts += [unit[half::step, half::step], unit[::step, half::step], unit[half::step, ::step]]
        step = half
    return parts


def scan_order(steps: np.ndarray, rounds: int) -> list[tuple[int, int]]:
    """Returns (dx, dy) of a round's pixels from the last to the first, 0 or -1."""
    inside = steps[:rounds, :, :1:-1, :1:-1].reshape(rounds, 2, -1)
    return [(-left, -up) for up, left in np.moveaxis(inside, 1, 2).reshape(-1, 2).tolist()]


def given_corrupted(name: str, image: np.ndarray, severity: int) -> np.ndarray:
    """Returns what the package makes of an image and of the numbers of `cases.given`."""
    given = cases.given(name, severity)
    if name == "glass_blur":
        rounds = p.GLASS_BLUR[severity - 1].rounds
        numbers = Numbers(randint=scan_order(given["steps"], rounds))
    elif name == "motion_blur":
        numbers = Numbers(uniform=[(given["angle"] + 45) / 90])
    elif name == "fog":
        numbers = Numbers(uniform=plasma_order(given["noise"]))
    elif name == "snow":
        numbers = Numbers(normal=[given["noise"]], uniform=[(given["angle"] + 135) / 90])
    elif name == "spatter":
        numbers = Numbers(normal=[given["noise"]])
    elif name == "elastic_transform":
        units = [given["moves"], *given["fields"]]
        numbers = Numbers(uniform=[(unit + 1) / 2 for unit in units])
    else:
        numbers = Numbers(randint=[0, *given["crop"]])
        cv2.imread = lambda _: cases.photograph()[..., ::-1].copy()
    shuffle = package._shuffle_pixels_njit_glass_blur
    package._shuffle_pixels_njit_glass_blur = getattr(shuffle, "py_func", shuffle)
    originals = {
        kind: getattr(np.random, kind) for kind in ("uniform", "normal", "randint", "seed")
    }
    for kind in originals:
        setattr(np.random, kind, getattr(numbers, kind))
    try:
        return corrupted(name, image, severity)
    finally:
        for kind, original in originals.items():
            setattr(np.random, kind, original)
        package._shuffle_pixels_njit_glass_blur = shuffle


def golden() -> dict[str, np.ndarray]:
    """Returns corrupted images, and statistics of many where the numbers are the package's own."""
    arrays: dict[str, np.ndarray] = {}
    for names, run in ((cases.EXACT, corrupted), (cases.GIVEN, given_corrupted)):
        for name in names:
            arrays[name] = np.stack([run(name, cases.image(s), s) for s in cases.SEVERITIES])
    np.random.seed(0)  # noqa: NPY002 - what the package draws from
    for name in cases.NOISES:
        counts = []
        for severity in cases.SEVERITIES:
            for level in cases.NOISE_LEVELS:
                flat = np.full((100, cases.NOISE_VALUES // 300, 3), level, np.uint8)
                noisy = corrupted(name, flat, severity)
                counts.append(np.bincount(noisy.ravel(), minlength=256))
        shape = (len(cases.SEVERITIES), len(cases.NOISE_LEVELS), 256)
        arrays[f"counts {name}"] = np.reshape(counts, shape).astype(np.uint16)
    clean = cases.image(0)
    for name in cases.SAMPLED:
        for severity in cases.SAMPLED_SEVERITIES:
            many = np.stack([corrupted(name, clean, severity) for _ in range(cases.SAMPLES)])
            arrays[f"statistics {name} {severity}"] = cases.statistics(many, clean)
    packages = ("imagecorruptions-imaug", "opencv-python", "scikit-image", "numpy", "pillow")
    arrays["versions"] = np.array([f"{name} {version(name)}" for name in packages])
    return arrays


def timed(name: str) -> Case:
    """Returns the case of one corruption at severity 3, image after image."""
    images = [cases.image(number) for number in range(16)]
    return Case(lambda: [corrupted(name, image, 3) for image in images], units=len(images))


def main() -> None:
    if len(sys.argv) > 1:
        arrays: dict[str, Any] = golden()
        np.savez_compressed(sys.argv[1], **arrays)
        return
    facts = {"imagecorruptions-imaug": version("imagecorruptions-imaug"), "pillow": PIL.__version__}
    serve({name: partial(timed, name) for name in p.CIFAR_C}, facts)


if __name__ == "__main__":
    main()
