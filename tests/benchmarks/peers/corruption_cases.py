"""Images and random numbers that our corruptions and the reference's both get. NumPy only.

`RandomState` is frozen: the same numbers in every environment.
"""

from typing import Any

import numpy as np

SIDE = 32
SEVERITIES = (1, 2, 3, 4, 5)
EXACT = (  # from the image alone
    *("defocus_blur", "gaussian_blur", "zoom_blur", "brightness", "contrast", "saturate"),
    *("pixelate", "jpeg_compression"),
)
GIVEN = (  # from the image and the numbers below
    *("glass_blur", "motion_blur", "fog", "snow", "spatter", "elastic_transform", "frost"),
)
NOISES = ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise")
SAMPLED = (*NOISES, "glass_blur", "motion_blur", "fog", "snow", "spatter", "elastic_transform")
NOISE_LEVELS = (0, 30, 128, 250)
NOISE_VALUES = 30_000  # of each level
SAMPLES, SAMPLED_SEVERITIES = 128, (2, 5)


def image(number: int) -> np.ndarray:
    """Returns one of many colored images, smooth but for noise and a few flat areas."""
    draws = np.random.RandomState(number)
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    waves = np.zeros((SIDE, SIDE, 3))
    for _ in range(4):
        turns, phase = draws.uniform(-2, 2, 2), draws.uniform(0, 6, 3)
        wave = turns[0] * rows + turns[1] * columns
        waves += np.cos(2 * np.pi * wave[..., None] + phase) * draws.uniform(0, 1, 3)
    waves = 128 + 45 * waves + draws.normal(0, 6, waves.shape)
    waves[4:9, 5:12] = draws.randint(0, 256, 3)  # a flat patch,
    waves[20:24, 3:8] = draws.randint(0, 256)  # one without color,
    waves[12:16, 24:30], waves[25:29, 22:30] = 0, 255  # black and white
    return np.clip(waves, 0, 255).astype(np.uint8)


def given(name: str, severity: int) -> dict[str, Any]:
    """Returns the random numbers of one corrupted image."""
    draws = np.random.RandomState(100 * severity + GIVEN.index(name))
    if name == "glass_blur":
        return {"steps": draws.randint(0, 2, (2, 2, SIDE, SIDE))}
    if name == "motion_blur":
        return {"angle": draws.uniform(-45, 45)}
    if name == "fog":
        return {"noise": draws.uniform(-1, 1, (SIDE, SIDE))}
    if name == "snow":
        return {"noise": draws.normal(size=(SIDE, SIDE)), "angle": draws.uniform(-135, -45)}
    if name == "spatter":
        return {"noise": draws.normal(size=(SIDE, SIDE))}
    if name == "elastic_transform":
        return {
            "moves": draws.uniform(-1, 1, (3, 2)),
            "fields": draws.uniform(-1, 1, (2, SIDE, SIDE)),
        }
    return {"crop": draws.randint(0, 8, 2)}


def photograph() -> np.ndarray:
    """Returns what stands for a photograph of ice, five times as large as 40 x 44 pixels."""
    draws = np.random.RandomState(7)
    coarse = draws.randint(0, 256, (20, 22, 3)).repeat(10, 0).repeat(10, 1)
    return (coarse // 2 + draws.randint(0, 128, coarse.shape)).astype(np.uint8)


def statistics(images: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """Returns three numbers for each corrupted image: its mean, its change and its roughness."""
    values = images.astype(np.float64)
    change = np.abs(values - clean).mean((1, 2, 3))
    roughness = np.abs(np.diff(values, axis=2)).mean((1, 2, 3))
    return np.stack([values.mean((1, 2, 3)), change, roughness], 1).astype(np.float32)
