"""The image sets known here: names, licences, files, addresses and checksums.

Checksums of Fashion-MNIST and MNIST hold for the decompressed bytes, because Debian rewrites the
gz headers. Of the binary CIFAR-10 archive only the md5 of its web page is known.
"""

from typing import NamedTuple

from common.errors import UserError, nearest


class RemoteFile(NamedTuple):
    """One download: `digest` is "algorithm:hex" of the file as it comes from `url`."""

    file: str
    url: str
    max_bytes: int  # a longer answer is refused
    digest: str
    content_sha256: str = ""  # of the decompressed bytes of a .gz; "" if not known


class DataSet(NamedTuple):
    """A set of labeled images; `folders` are the places it may take below a data folder."""

    key: str
    title: str
    licence: str
    size: str
    folders: tuple[str, ...]
    downloads: tuple[RemoteFile, ...] = ()
    members: tuple[str, ...] = ()  # of the downloaded archive, all that is unpacked: folder/file
    member_bytes: int = 0  # size of each


IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
CIFAR_BINARY_FOLDER = "cifar-10-batches-bin"
CIFAR_BINARY_ARCHIVE = "cifar-10-binary.tar.gz"
CIFAR_BINARY_FILES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")

_MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_FASHION_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"


def _idx_downloads(base: str, *rows: tuple[int, str, str]) -> tuple[RemoteFile, ...]:
    return tuple(
        RemoteFile(f"{file}.gz", f"{base}{file}.gz", max_bytes, digest, content)
        for file, (max_bytes, digest, content) in zip(IDX_FILES, rows, strict=True)
    )


MNIST = DataSet(
    "mnist",
    "MNIST",
    "CC BY-SA 3.0, Yann LeCun and Corinna Cortes",
    "11.6 MB",
    ("mnist", "MNIST/raw"),
    _idx_downloads(
        _MNIST_URL,
        (
            9_912_422,
            "sha256:440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        (
            28_881,
            "sha256:3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        (
            1_648_877,
            "sha256:8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        (
            4_542,
            "sha256:f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
)

# The limits are Debian's measured sizes and some room: the upstream files also hold a name and a
# time stamp in the gz header. They come over plain http, hence the checksum of the content too.
FASHION_MNIST = DataSet(
    "fashion_mnist",
    "Fashion-MNIST",
    "MIT, Zalando SE",
    "30.9 MB",
    ("fashion_mnist", "fashion-mnist", "FashionMNIST/raw"),
    _idx_downloads(
        _FASHION_URL,
        (
            26_422_000,
            "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        (
            29_600,
            "md5:25c81989df183df01b3e8a0aad5dffbe",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
        (
            4_422_200,
            "md5:bef4ecab320f06d8554ea6380940ec79",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        (
            5_200,
            "md5:bb300cfdad3c16e7a12a480ee83cd310",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
)

CIFAR10 = DataSet(
    "cifar10",
    "CIFAR-10",
    "none stated; cite Krizhevsky (2009), Learning Multiple Layers of Features from Tiny Images",
    "170 MB",
    ("cifar10", "."),
    (
        RemoteFile(
            CIFAR_BINARY_ARCHIVE,
            "https://www.cs.toronto.edu/~kriz/" + CIFAR_BINARY_ARCHIVE,
            180_000_000,
            "md5:c32a1d4ab5d03f1284b67883e8d87530",
        ),
    ),
    tuple(f"{CIFAR_BINARY_FOLDER}/{file}" for file in CIFAR_BINARY_FILES),
    30_730_000,
)

CIFAR10_LOSSLESS = DataSet(
    "cifar10_lossless",
    "CIFAR-10 (lossless subset)",
    "as CIFAR-10; PNG copies from karpathy/convnetjs (MIT)",
    "14.2 MB",
    ("cifar10",),
)

DIGITS8X8 = DataSet(
    "digits8x8",
    "Digits 8x8",
    "CC BY 4.0 (UCI), as shipped by scikit-learn (BSD 3-clause)",
    "45 kB",
    ("digits8x8",),
)

DATA_SETS: dict[str, DataSet] = {
    entry.key: entry for entry in (FASHION_MNIST, MNIST, CIFAR10, CIFAR10_LOSSLESS, DIGITS8X8)
}

# SHA-256 of the arrays (uint8, C order) of sets that exist in the npz layout only, as measured.
ARRAY_SHA256: dict[str, dict[str, str]] = {
    "cifar10_jpeg": {
        "train_images": "5aaf8a2cf2e577ff4dbb15e4f368840fab5aca1812bcc69682005f8dc661d466",
        "train_labels": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
        "test_images": "b7018a062865e9348a704e72416eb53c816b43cc8ac42ab43276a2b967508ab6",
        "test_labels": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
    },
    "cifar10_lossless": {
        "train_images": "bac45b45504ed1289a3f437be4bfbefece248abbc094a428a0b4dfab00e776ae",
        "train_labels": "2c365f60663d4e0eae47b2e7e1f85bef4375b295095eff8ce46a32be9415473c",
        "test_images": "da362006b99671213d1a5d856cab2bedf64d40bad4501630ee60f4ceb2d3ec7f",
        "test_labels": "636a087e604331a0b9dafc94b6e9ade0c9cec72c4400d12473ccdb3e264474c1",
    },
    "digits8x8": {
        "images": "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3",
        "labels": "8ba4f891220f5e4c9c819638d1602d74b83618f167043c6da52a2a247841ddf0",
    },
}

# SHA-256 of the decompressed IDX files of the embedded sample (sample/README.md).
SAMPLE_SHA256: dict[str, str] = {
    "train-images-idx3-ubyte": "d33512cfdc636a0d8972818e6659995be209a88891df7fa2109d7895922c8985",
    "train-labels-idx1-ubyte": "620cb8e3b9348037c5ff9a07b02d773ab165330e072dfd19e0d21c59f8042dcf",
    "t10k-images-idx3-ubyte": "15a92dd1e9b16ea361928086e77df4dfa890c255c00b5a8c8162c1040ce8eef1",
    "t10k-labels-idx1-ubyte": "234596aeb6eb48133ec99a62541f90bc0728c9559a681f1e0638037462458f2c",
}


def data_set(name: str) -> DataSet:
    """Returns what is known of the set called `name`.

    Raises:
        UserError: If there is none; the nearest name is given.
    """
    if name not in DATA_SETS:
        known = ", ".join(DATA_SETS)
        raise UserError(f"no image set {name!r}{nearest(name, DATA_SETS)}; known: {known}")
    return DATA_SETS[name]
