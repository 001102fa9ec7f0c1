"""Readers of other people's data, on tiny files in their layouts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from common.errors import DataError
from finetune.readers import LAYOUTS, read

LEVELS = np.random.RandomState(0).randint(0, 256, (10, 4, 4, 3)).astype(np.uint8)


def picture(path: Path, level: int, shape: tuple[int, int] = (8, 8)) -> None:
    """Writes a picture of one level whose outermost columns are black where it is wide."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((*shape, 3), level, np.uint8)
    if shape[1] > shape[0]:
        pixels[:, [0, -1]] = 0
    Image.fromarray(pixels).save(path)


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    np.save(tmp_path / "fog.npy", LEVELS)
    np.save(tmp_path / "labels.npy", np.tile([3, 8], 5).astype(np.uint8))
    return tmp_path


def test_cifar_10_c_is_ordered_by_severity_and_mapped(cifar: Path) -> None:
    data = read("cifar10_c", cifar, corruption="fog", severity=4)

    assert isinstance(data.images, np.memmap)
    assert np.array_equal(data.images, LEVELS[6:8])
    assert data.labels.tolist() == [3, 8]
    assert [data.classes[label] for label in data.labels] == ["cat", "ship"]
    np.save(cifar / "labels.npy", np.array([3, 8], np.uint8))  # not repeated
    assert read("cifar10_c", cifar, corruption="fog", severity=5).labels.tolist() == [3, 8]


def test_imagenet_c_takes_labels_from_the_order_of_class_folders(tmp_path: Path) -> None:
    for level, name in ((10, "n02"), (90, "n01")):
        picture(tmp_path / "fog" / "3" / name / "a.JPEG", level)

    data = read("imagenet_c", tmp_path, corruption="fog", severity=3, size=8)
    other = read(
        "imagenet_c", tmp_path, corruption="fog", severity=3, size=8, classes=("n02", "n01")
    )

    assert data.classes == ("n01", "n02")
    assert data.images.shape == (2, 8, 8, 3)
    assert data.labels.tolist() == [0, 1]
    # JPEG keeps a flat picture to a level or two.
    np.testing.assert_allclose(data.images[:].mean((1, 2, 3)), [90, 10], atol=2)
    np.testing.assert_allclose(other.images[[0, 1]].mean((1, 2, 3)), [10, 90], atol=2)


def test_waterbirds_are_grouped_by_bird_and_background(tmp_path: Path) -> None:
    lines = ["img_id,img_filename,y,split,place,place_filename"]
    for number, (bird, split, place) in enumerate([(0, 0, 0), (1, 0, 0), (1, 2, 1), (0, 0, 1)]):
        lines.append(f"{number},{bird}/{number}.png,{bird},{split},{place},x")
        picture(tmp_path / f"{bird}/{number}.png", 10 * number)
    (tmp_path / "metadata.csv").write_text("\n".join(lines))

    data = read("waterbirds", tmp_path, split="train", size=4)

    assert data.labels.tolist() == [0, 1, 0]
    named = [data.group_names[group] for group in data.groups]
    assert named == ["landbird on land", "waterbird on land", "landbird on water"]
    assert data.images[np.array([1, 2])].mean((1, 2, 3)).tolist() == [10, 30]
    assert read("waterbirds", tmp_path, split="test", size=4).groups.tolist() == [3]


@pytest.mark.parametrize("is_text", [True, False])
def test_celeba_is_read_as_published_and_with_commas(tmp_path: Path, is_text: bool) -> None:
    rows = [("1.png", -1, 1, 0), ("2.png", 1, -1, 0), ("3.png", 1, 1, 1)]
    for number, row in enumerate(rows):
        picture(tmp_path / "img_align_celeba" / row[0], number, (6, 5))
    if is_text:
        body = [f"{name}  {blond} {male}" for name, blond, male, _ in rows]
        (tmp_path / "list_attr_celeba.txt").write_text("\n".join(["3", "Blond_Hair Male", *body]))
        split = [f"{name} {part}" for name, _, _, part in rows]
        (tmp_path / "list_eval_partition.txt").write_text("\n".join(split))
    else:
        body = [f"{name},{blond},{male}" for name, blond, male, _ in rows]
        table = "\n".join(["image_id,Blond_Hair,Male", *body])
        (tmp_path / "list_attr_celeba.csv").write_text(table)
        split = [f"{name},{part}" for name, _, _, part in rows]
        table = "\n".join(["image_id,partition", *split])
        (tmp_path / "list_eval_partition.csv").write_text(table)

    data = read("celeba", tmp_path, split="train", size=5)

    assert data.labels.tolist() == [0, 1]
    assert data.groups.tolist() == [1, 2]
    assert data.group_names[2] == "Blond_Hair, not Male"
    assert data.images[1].mean() == 1
    with pytest.raises(ValueError, match=r"'Blond' is no attribute .* mean \"Blond_Hair\""):
        read("celeba", tmp_path, split="train", target="Blond")


def test_superclasses_come_from_lists_or_from_folders(tmp_path: Path) -> None:
    for level, name in enumerate(("wolf", "fox", "ape", "gibbon")):
        picture(tmp_path / "flat" / name / "a.png", level)
        picture(tmp_path / "nested" / ("dogs" if level < 2 else "apes") / name / "a.png", level)

    target = read(
        "living17", tmp_path / "flat", superclasses={"dogs": ["fox"], "apes": ["ape"]}, size=8
    )
    nested = read("entity30", tmp_path / "nested", size=8)

    assert target.images[:].mean((1, 2, 3)).tolist() == [1, 2]
    assert target.group_names == ("fox", "ape")
    assert nested.classes == ("apes", "dogs")
    assert nested.labels.tolist() == [0, 0, 1, 1]
    assert nested.group_names[2] == "dogs/fox"
    assert nested.images[2:].mean((1, 2, 3)).tolist() == [1, 0]


def test_the_middle_of_a_picture_is_kept(tmp_path: Path) -> None:
    picture(tmp_path / "dogs" / "wolf" / "a.png", 50, (4, 8))

    data = read("living17", tmp_path, size=4)

    assert np.array_equal(data.images[0], np.full((4, 4, 3), 50))
    # A quarter larger, then the middle again: a flat middle stays as it is.
    assert read("living17", tmp_path, size=4, enlarged=1.25).images[:1].shape == (1, 4, 4, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"corruption": "fig", "severity": 1}, r'did you mean "fog"'),
        ({"corruption": "fog", "severity": 6}, r"severity=6: expected 1, 2, 3, 4 or 5"),
        ({"corruption": "snow", "severity": 1}, r"snow.npy: No such file"),
        ({"corruption": "frost", "severity": 1}, r"frost.npy: is no array"),
        ({"corruption": "jpeg_compression", "severity": 1}, r"is uint8 \(7, 4, 4, 3\)"),
    ],
)
def test_mistakes_are_named(cifar: Path, options: dict[str, Any], message: str) -> None:
    np.save(cifar / "frost.npy", np.array([{}], object))  # would be unpickled
    np.save(cifar / "jpeg_compression.npy", LEVELS[:7])

    with pytest.raises((ValueError, DataError), match=message) as caught:
        read("cifar10_c", cifar, **options)

    assert "\n" not in str(caught.value)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"without it: finetune\.corruptions"):
        read("cifar10_c", tmp_path / "nowhere", corruption="fog", severity=1)
    with pytest.raises(ValueError, match="expected one of cifar10_c, imagenet_c"):
        read("imagenet", tmp_path)
    with pytest.raises(DataError, match=r"metadata.csv: No such file"):
        read("waterbirds", tmp_path, split="test")
    (tmp_path / "metadata.csv").write_text("img_filename,y,split,place\na.png,0,0,0\n")
    with pytest.raises(ValueError, match="split='dev': expected train, valid or test"):
        read("waterbirds", tmp_path, split="dev")
    with pytest.raises(DataError, match=r"a.png: No such file"):
        _ = read("waterbirds", tmp_path, split="train").images[0]
    with pytest.raises(DataError, match="holds no pictures"):
        read("waterbirds", tmp_path, split="test")
    assert all(layout.holds and layout.analogue for layout in LAYOUTS.values())
