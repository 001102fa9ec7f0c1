"""`config.data` of sets that several experiments read: SIRENs of images, and zoos of CNNs.

Numbers with a place are those of Zhou et al. (2023), "Permutation Equivariant Neural Functionals".
The small versions are for 2 cores. Loads no JAX: config files import it.
"""

from ml_collections import ConfigDict


def siren_set(dataset: str, *, copies: int) -> ConfigDict:
    """Returns the section of a set of SIRENs, see `nfn.siren_sets.SirenSetSpec`.

    Args:
        dataset: Name of the images; cifar10 has 3 channels and 32 x 32 pixels.
        copies: SIRENs fitted to every training image.
    """
    is_color = dataset == "cifar10"
    return ConfigDict(
        dict(
            name=dataset,
            source="",  # "": the first of $DATA_DIR, Debian's package, fetched files
            classes=tuple(range(10)),
            train_per_class=4_500,  # App. D.3: 45 000 / 5 000 / 10 000 images
            valid_per_class=500,
            test_per_class=1_000,
            copies=copies,
            size=32 if is_color else 28,
            widths=(2, 32, 32, 3 if is_color else 1),  # App. D.3
            omega=30.0,  # App. D.3
            fit_steps=5_000,  # App. D.3
            fit_learning_rate=5e-5,  # App. D.3
            fit_schedule="constant",
            fit_seed=0,
            chunk=32,
            sine="auto",
            normalize=False,
        )
    )


def make_siren_set_small(section: ConfigDict, *, train: int, valid: int, test: int) -> None:
    """Changes a section to small SIRENs of small images, so many of each class in every part."""
    is_color = section.name == "cifar10"
    # The results on Fashion-MNIST shall not depend on what a machine has; others are not embedded.
    section.source = "embedded" if section.name == "fashion_mnist" else ""
    # A third of the paper's omega at half its pixels: at 20 to 30 so small an image is memorized
    # pixel by pixel; of 10, 15 and 20 this had the best validation accuracy in classification.
    section.size, section.omega = 16 if is_color else 14, 10.0
    section.widths = (2, 16, 16, 3 if is_color else 1)
    section.train_per_class, section.valid_per_class = train, valid
    section.test_per_class = test
    section.fit_steps, section.fit_learning_rate = 150, 1e-2
    section.fit_schedule = "cosine"
    section.normalize = True


def edited_siren_set(dataset: str, *, edit: str) -> ConfigDict:
    """Returns the section of SIRENs that are to be edited, see `nfn.tasks.edit_targets`.

    "": the edit that Zhou et al. (2023) show, contrast of CIFAR-10 and dilation of others.
    """
    section = siren_set(dataset, copies=1)  # App. D.4: one SIREN per image
    section.edit = edit or ("contrast" if dataset == "cifar10" else "dilate")
    section.shift = (1.0, 2.0)  # of translate, pixels
    section.degrees = 15.0  # of rotate
    return section


def cnn_zoo(dataset: str) -> ConfigDict:
    """Returns the section of a zoo of CNNs, see `nfn.tasks.zoos`."""
    return ConfigDict(
        dict(
            files="",  # folder of the published zoo, such as cifar10 or svhn_cropped
            name=dataset,
            source="",  # "": the first of $DATA_DIR, Debian's package, fetched files
            size=32 if dataset == "cifar10" else 28,
            channels=(1, 16, 16, 16),  # Small CNN Zoo; its README gives the following too
            hidden_layers=0,  # dense layers between the pool and the last one
            hidden_width=0,
            classes=10,
            zoo_steps=8_000,  # 86 epochs of the zoo
            zoo_batch_size=512,
            learning_rate=(5e-4, 5e-2),
            l2=(1e-8, 1e-2),
            init_scale=(0.3, 2.0),
            dropout=(0.0, 0.7),
            fractions=(0.1, 0.25, 0.5, 1.0),
            activations=("relu", "tanh"),
            optimizers=("adam", "rmsprop", "sgd"),
            snapshots=1,
            runs=29_970,  # the published sets have 29 999 (CIFAR-10) and 29 987 (SVHN)
            train_runs=11_990,  # App. D.1: 40 %, 10 %, 50 %
            valid_runs=2_990,
            test_runs=14_990,
            piece=200,
            zoo_seed=0,
            normalize=True,  # released code
        )
    )


def make_cnn_zoo_small(section: ConfigDict) -> None:
    """Changes a section to a zoo a tenth as large, of networks with half the channels."""
    is_color = section.name == "cifar10"
    # The results on Fashion-MNIST shall not depend on what a machine has; others are not embedded.
    section.source = "" if is_color else "embedded"
    section.size = 16 if is_color else 14
    section.channels = (1, 8, 8, 8)
    section.zoo_steps, section.zoo_batch_size = 300, 64
    section.dropout = (0.0, 0.5)
    section.runs = 4_000
    section.train_runs, section.valid_runs, section.test_runs = 2_400, 600, 1_000
