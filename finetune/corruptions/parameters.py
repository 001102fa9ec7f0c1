"""Names and parameters of the corruptions of CIFAR-10-C, one entry for each severity of 1 to 5.

Lengths are in pixels of images of 32 x 32 unless a comment says otherwise.
"""

from typing import NamedTuple

import numpy as np

SEVERITIES = (1, 2, 3, 4, 5)

COMMON = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
CIFAR_C = COMMON + EXTRA  # a place in this tuple is folded into random keys: append only
# Those that Lee et al. (2023) average over, in the order of their code.
SURGICAL = (
    "frost",
    "gaussian_blur",
    "gaussian_noise",
    "glass_blur",
    "impulse_noise",
    "jpeg_compression",
    "motion_blur",
    "pixelate",
    "saturate",
    "shot_noise",
    "snow",
    "spatter",
    "speckle_noise",
    "zoom_blur",
)

GAUSSIAN_NOISE = (0.04, 0.06, 0.08, 0.09, 0.10)  # standard deviation, images in [0, 1]
SHOT_NOISE = (500, 250, 100, 75, 50)  # photons of a white pixel
IMPULSE_NOISE = (0.01, 0.02, 0.03, 0.05, 0.07)  # share of values that become black or white
SPECKLE_NOISE = (0.06, 0.10, 0.12, 0.16, 0.20)  # standard deviation in parts of the value
GAUSSIAN_BLUR = (0.4, 0.6, 0.7, 0.8, 1.0)  # standard deviation


class Glass(NamedTuple):
    """Blur of standard deviation `sigma` before and after pixels are moved `rounds` times."""

    sigma: float
    rounds: int


# Pixels move by at most 1 at every severity.
GLASS_BLUR = (Glass(0.05, 1), Glass(0.25, 1), Glass(0.4, 1), Glass(0.25, 2), Glass(0.4, 2))


class Defocus(NamedTuple):
    """A disk of `radius`, smoothed by a 3 x 3 Gaussian of standard deviation `sigma`."""

    radius: float
    sigma: float


DEFOCUS_BLUR = (
    *(Defocus(0.3, 0.4), Defocus(0.4, 0.5), Defocus(0.5, 0.6), Defocus(1.0, 0.2)),
    Defocus(1.5, 0.1),
)


class Motion(NamedTuple):
    """A half-Gaussian of standard deviation `sigma` along a line of 2 * `radius` + 1 taps."""

    radius: int
    sigma: float


MOTION_BLUR = (Motion(6, 1.0), Motion(6, 1.5), Motion(6, 2.0), Motion(8, 2.0), Motion(9, 2.5))
MOTION_ANGLES = (-45.0, 45.0)  # degrees

# Zooms 1, 1.01, ... The stop was meant to be left out: rounding keeps it at severities 1 and 2,
# which therefore have 1.06 and 1.11. The published files were made like this.
ZOOM_BLUR = tuple(tuple(np.arange(1, stop, 0.01)) for stop in (1.06, 1.11, 1.16, 1.21, 1.26))


class Snow(NamedTuple):
    """Flakes: normal(mean, std), zoomed, those under `threshold` removed, moved along a line.

    Attributes:
        mix: Share of the image that is not whitened.
    """

    mean: float
    std: float
    zoom: float
    threshold: float
    motion: Motion
    mix: float


SNOW = (
    Snow(0.10, 0.2, 1.00, 0.60, Motion(8, 3.0), 0.95),
    Snow(0.10, 0.2, 1.00, 0.50, Motion(10, 4.0), 0.90),
    Snow(0.15, 0.3, 1.75, 0.55, Motion(10, 4.0), 0.90),
    Snow(0.25, 0.3, 2.25, 0.60, Motion(12, 6.0), 0.85),
    Snow(0.30, 0.3, 1.25, 0.65, Motion(14, 12.0), 0.80),
)
SNOW_ANGLES = (-135.0, -45.0)  # degrees

FROST = ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))  # of image, of ice
FROST_SCALE = 0.2  # of photographs of ice

FOG = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))  # thickness, decay


class Spatter(NamedTuple):
    """Drops: normal(mean, std) smoothed by `sigma`, those under `threshold` removed.

    Attributes:
        gain: Of water its opacity; of mud the standard deviation of its edges.
    """

    mean: float
    std: float
    sigma: float
    threshold: float
    gain: float
    is_mud: bool


SPATTER = (
    Spatter(0.62, 0.1, 0.7, 0.70, 0.5, is_mud=False),
    Spatter(0.65, 0.1, 0.8, 0.70, 0.5, is_mud=False),
    Spatter(0.65, 0.3, 1.0, 0.69, 0.5, is_mud=False),
    Spatter(0.65, 0.1, 0.7, 0.69, 0.6, is_mud=True),
    Spatter(0.65, 0.1, 0.5, 0.68, 0.6, is_mud=True),
)
WATER = (175, 238, 238)
MUD = (63, 42, 20)

BRIGHTNESS = (0.05, 0.10, 0.15, 0.20, 0.30)  # added to the value of HSV
CONTRAST = (0.75, 0.50, 0.40, 0.30, 0.15)  # what remains of it
SATURATE = ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2))  # times, plus
JPEG_QUALITY = (80, 65, 58, 50, 40)
PIXELATE = (0.95, 0.90, 0.85, 0.75, 0.65)  # of the side


class Elastic(NamedTuple):
    """Displacements of pixels, all in parts of the image's side.

    Attributes:
        amount: Factor of a smoothed uniform field in [-1, 1].
        sigma: Standard deviation that smooths it.
        affine: Three points each move by at most this.
    """

    amount: float
    sigma: float
    affine: float


ELASTIC = (
    Elastic(0.0, 0.0, 0.08),
    Elastic(0.05, 0.2, 0.07),
    Elastic(0.08, 0.06, 0.06),
    Elastic(0.1, 0.04, 0.05),
    Elastic(0.1, 0.03, 0.03),
)
