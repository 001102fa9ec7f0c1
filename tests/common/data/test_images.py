"""Images come from the first place that holds them, are what they claim to be, and say so."""

import gzip
import hashlib
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from common.data import catalogue, formats, images
from common.data.catalogue import FASHION_MNIST, IDX_FILES, SAMPLE_SHA256
from common.data.images import balanced_indices, downsample, find, load_images
from common.data.sample import make_sample
from common.errors import DataError, UserError

SAMPLE = images.SAMPLE_FOLDER


def idx_files(seed: int = 0) -> dict[str, bytes]:
    """A Fashion-MNIST of 6 + 4 images."""
    rng = np.random.default_rng(seed)
    contents = []
    for n in (6, 4):
        contents.append(struct.pack(">4I", 2051, n, 28, 28) + rng.bytes(n * 784))
        contents.append(struct.pack(">2I", 2049, n) + bytes(range(n)))
    return dict(zip(IDX_FILES, contents, strict=True))


def write(folder: Path, files: dict[str, bytes], *, packed: bool = True) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(content) if packed else content)
    return folder


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with nothing on it, for which `idx_files()` is the published Fashion-MNIST."""
    downloads = tuple(
        remote._replace(content_sha256=hashlib.sha256(content).hexdigest())
        for remote, content in zip(FASHION_MNIST.downloads, idx_files().values(), strict=True)
    )
    entry = FASHION_MNIST._replace(downloads=downloads)
    monkeypatch.setitem(catalogue.DATA_SETS, "fashion_mnist", entry)
    monkeypatch.setattr(images, "DEBIAN_FOLDER", tmp_path / "debian")
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("LAB_DATA", str(tmp_path / "fetched"))
    return tmp_path


def test_the_embedded_sample_is_balanced_real_and_small() -> None:
    sample = load_images("fashion_mnist", "embedded")

    assert (sample.name, sample.source) == ("Fashion-MNIST", "embedded sample")
    assert sample.train_images.shape == (10_000, 28, 28)
    assert sample.test_images.shape == (2_000, 28, 28)
    np.testing.assert_array_equal(np.bincount(sample.train_labels), [1_000] * 10)
    np.testing.assert_array_equal(np.bincount(sample.test_labels), [200] * 10)
    assert sample.train_labels.dtype == np.int32
    # Mean and deviation of all 60,000 training images are 0.28604 and 0.35302 of white.
    assert abs(sample.train_images.mean() / 255 - 0.28604) < 0.005
    assert abs(sample.train_images.std() / 255 - 0.35302) < 0.005
    assert sum(path.stat().st_size for path in SAMPLE.iterdir() if path.is_file()) < 6e6


def test_the_readme_of_the_sample_tells_its_checksums_and_licence() -> None:
    text = (SAMPLE / "README.md").read_text()
    for name, checksum in SAMPLE_SHA256.items():
        assert f"`{name}.xz`" in text
        assert checksum in text
        assert f"{(SAMPLE / f'{name}.xz').stat().st_size:,}" in text
    assert "Zalando SE" in text
    assert "Permission is hereby granted, free of charge" in text


@pytest.mark.skipif(not images.DEBIAN_FOLDER.exists(), reason="needs dataset-fashion-mnist")
def test_the_sample_is_what_its_tool_makes_of_debians_package() -> None:
    for name, content in make_sample.make_sample(images.DEBIAN_FOLDER).items():
        assert hashlib.sha256(content).hexdigest() == SAMPLE_SHA256[name]
    full, sample = load_images("fashion_mnist", "debian"), load_images("fashion_mnist", "embedded")
    chosen = balanced_indices(full.train_labels, per_class=1_000)
    np.testing.assert_array_equal(full.train_images[chosen], sample.train_images)
    np.testing.assert_array_equal(full.train_labels[chosen], sample.train_labels)


def test_the_tool_refuses_another_source(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not what it was published as"):
        make_sample.write_sample(write(tmp_path / "source", idx_files()), tmp_path)
    assert not list(tmp_path.glob("*.xz"))


def test_a_damaged_sample_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "sample"
    shutil.copytree(SAMPLE, copy)
    labels = copy / "t10k-labels-idx1-ubyte.xz"
    damaged = bytearray(labels.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    labels.write_bytes(damaged)
    monkeypatch.setattr(images, "SAMPLE_FOLDER", copy)
    with pytest.raises(DataError, match="t10k-labels"):
        load_images("fashion_mnist", "embedded")


def test_a_set_is_read_once_and_again_when_a_file_of_it_changes(places: Path) -> None:
    folder = write(places / "data" / "fashion_mnist", idx_files(), packed=False)
    first = load_images("fashion_mnist")
    assert load_images("fashion_mnist") is first  # read-only: it can be shared
    with pytest.raises(ValueError, match="read-only"):
        first.train_images[0] = 0

    pixels = folder / IDX_FILES[0]
    damaged = bytearray(pixels.read_bytes())
    damaged[-1] ^= 1  # of the same size
    pixels.write_bytes(damaged)
    with pytest.raises(DataError, match="is not what it was published as"):
        load_images("fashion_mnist")


def test_places_are_searched_in_order(places: Path) -> None:
    files = idx_files()
    assert load_images("fashion_mnist").source == "embedded sample"
    for folder, source in (
        ("fetched/fashion_mnist", "fetched"),
        ("debian", "debian"),
        ("data/fashion-mnist", "DATA_DIR"),
    ):
        write(places / folder, files)
        assert load_images("fashion_mnist").source == source
    found = [place.source for place in find("fashion_mnist")]
    assert found == ["DATA_DIR", "debian", "fetched", "embedded sample"]
    for source in found:
        assert load_images("fashion_mnist", source).source == source


def test_the_pinned_source_does_not_depend_on_the_machine(places: Path) -> None:
    before = load_images("fashion_mnist", "embedded")
    write(places / "data" / "fashion_mnist", idx_files())
    after = load_images("fashion_mnist", "embedded")
    assert after.sha256 == before.sha256
    assert load_images("fashion_mnist").sha256 != before.sha256


def test_a_corrupt_or_incomplete_set_is_never_passed_over(places: Path) -> None:
    write(places / "debian", idx_files())
    folder = write(places / "data" / "fashion_mnist", idx_files())
    broken = folder / "t10k-images-idx3-ubyte.gz"

    broken.write_bytes(broken.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte\.gz: is cut short"):
        load_images("fashion_mnist")

    broken.write_bytes(gzip.compress(idx_files(seed=1)["t10k-images-idx3-ubyte"]))
    with pytest.raises(DataError, match="is not what it was published as"):
        load_images("fashion_mnist")

    broken.unlink()
    with pytest.raises(DataError, match="is incomplete: lacks t10k-images-idx3-ubyte"):
        load_images("fashion_mnist")


def test_the_checksum_is_that_of_the_images_not_of_their_files(places: Path) -> None:
    write(places / "data" / "fashion_mnist", idx_files(), packed=False)
    write(places / "debian", idx_files())
    plain, packed = (load_images("fashion_mnist", source) for source in ("DATA_DIR", "debian"))

    assert plain.sha256 == packed.sha256
    assert plain.description.startswith(
        "Fashion-MNIST (DATA_DIR; 6 train and 4 test images; sha256 "
    )
    assert plain.describe()["sha256"] == plain.sha256
    with pytest.raises(ValueError, match="read-only"):
        plain.train_images[0, 0, 0] = 1


@pytest.mark.usefixtures("places")
def test_what_is_nowhere_says_how_to_get_it() -> None:
    with pytest.raises(DataError, match=r"run `lab data fetch mnist` \(11.6 MB\)"):
        load_images("mnist")
    with pytest.raises(DataError, match=r"copy it to \$DATA_DIR/digits8x8/"):
        load_images("digits8x8")
    with pytest.raises(DataError, match="lab data fetch cifar10"):
        load_images("cifar10", "embedded")
    with pytest.raises(UserError, match='did you mean "fashion_mnist"'):
        load_images("fashion-mnist")
    with pytest.raises(UserError, match='did you mean "debian"'):
        load_images("fashion_mnist", "debain")


def jpeg_batch(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (3, 32, 32, 3), np.uint8)
    return {"images": pixels, "labels": np.arange(3, dtype=np.uint8)}


def test_jpeg_copies_are_never_called_cifar10(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = places / "data" / "cifar10"
    folder.mkdir(parents=True)
    for seed, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        batch = jpeg_batch(seed)
        np.savez_compressed(folder / f"{name}.npz", images=batch["images"], labels=batch["labels"])
    with pytest.raises(DataError, match="is not what it was published as"):
        load_images("cifar10")

    arrays = formats.read_cifar10_npz(folder)
    sums = {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in arrays.items()}
    monkeypatch.setitem(catalogue.ARRAY_SHA256, "cifar10_jpeg", sums)
    copies = load_images("cifar10")

    assert copies.name == "CIFAR-10 (JPEG copies)"
    assert copies.description.startswith("CIFAR-10 (JPEG copies) (")
    assert copies.describe()["name"] == copies.name
    np.testing.assert_array_equal(copies.train_images[3:6], jpeg_batch(1)["images"])


def test_digits_and_the_lossless_subset_are_read(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    digits = {
        "images": rng.integers(0, 17, (1_797, 8, 8), np.uint8),
        "labels": rng.integers(0, 10, 1_797, np.uint8),
    }
    lossless = {
        "train_images": rng.integers(0, 256, (4, 32, 32, 3), np.uint8),
        "train_labels": np.arange(4, dtype=np.uint8),
        "test_images": rng.integers(0, 256, (2, 32, 32, 3), np.uint8),
        "test_labels": np.arange(2, dtype=np.uint8),
    }
    for key, path, arrays in (
        ("digits8x8", "digits8x8/digits.npz", digits),
        ("cifar10_lossless", "cifar10/lossless_subset.npz", lossless),
    ):
        (places / "data" / path).parent.mkdir(parents=True)
        np.savez(places / "data" / path, allow_pickle=False, **arrays)
        sums = {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in arrays.items()}
        monkeypatch.setitem(catalogue.ARRAY_SHA256, key, sums)

    read = load_images("digits8x8")
    joined = np.concatenate([read.train_images, read.test_images])
    np.testing.assert_array_equal(joined, digits["images"])
    subset = load_images("cifar10_lossless")
    assert subset.name == "CIFAR-10 (lossless subset)"
    np.testing.assert_array_equal(subset.test_images, lossless["test_images"])
    with pytest.raises(DataError, match="no CIFAR-10 found"):  # the subset is not the set
        load_images("cifar10")


@pytest.mark.parametrize("size", [28, 14, 7, 4, 1])
def test_downsampling_averages_blocks(size: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
    small = downsample(pixels, size)

    block = 28 // size
    assert small.dtype == np.float32
    for i, row, column in ((0, 0, 0), (4, size - 1, size - 1), (2, size // 2, 0)):
        rows, columns = row * block, column * block
        mean = pixels[i, rows : rows + block, columns : columns + block].astype(float).mean()
        assert small[i, row, column] == np.float32(mean)
    # The mean grey level stays; float32 rounds where block**2 is no power of two.
    np.testing.assert_allclose(small.mean(dtype=float), pixels.mean(dtype=float), rtol=1e-6)


def test_downsampling_keeps_channels_apart_and_refuses_fractions() -> None:
    pixels = np.zeros((2, 32, 32, 3), np.uint8)
    pixels[..., 1] = 200
    np.testing.assert_array_equal(downsample(pixels, 8)[1, 3, 5], [0, 200, 0])
    for size in (10, 0, 56):
        with pytest.raises(UserError, match=f"size={size} does not divide"):
            downsample(np.zeros((1, 28, 28), np.uint8), size)


def test_balanced_subsets_are_balanced_ordered_and_disjoint() -> None:
    labels = np.random.default_rng(0).integers(0, 5, 400).astype(np.int32)
    train = balanced_indices(labels, per_class=30, classes=(4, 1))
    valid = balanced_indices(labels, per_class=10, classes=(4, 1), skip=30)

    np.testing.assert_array_equal(np.bincount(labels[train], minlength=5), [0, 30, 0, 0, 30])
    np.testing.assert_array_equal(np.bincount(labels[valid], minlength=5), [0, 10, 0, 0, 10])
    assert (np.diff(train) > 0).all()
    assert not set(train) & set(valid)
    first = np.flatnonzero(labels == 1)[:40]
    assert set(first) == {i for i in (*train, *valid) if labels[i] == 1}
    with pytest.raises(UserError, match="wanted 500"):
        balanced_indices(labels, per_class=500)
