"""What several config files say alike: sets of networks, tasks, optimizers, presets.

Numbers with a place are those of Zhou et al. (2023a), "Permutation Equivariant Neural Functionals".
The small versions are for 2 cores. Loads no JAX: config files import it.
"""

from ml_collections import ConfigDict

from common.config import require_at_least_one

POD_CHIPS = 256  # TPU v5e 16x16
FLOATS = ("float32", "bfloat16")


def gray_images(preset: str) -> str:
    """Returns the gray images of a preset: MNIST, or on 2 cores what is embedded."""
    return "fashion_mnist" if preset == "cpu" else "mnist"


def optimizer(name: str, learning_rate: float, schedule: str, warmup_steps: int) -> ConfigDict:
    """Returns the section of an optimizer with a warm-up, see `common.optim`."""
    return ConfigDict(
        dict(name=name, learning_rate=learning_rate, schedule=schedule, warmup_steps=warmup_steps)
    )


def set_loop(
    config: ConfigDict,
    *,
    num_steps: int,
    batch_size: int,
    every: int,
    chunk: int,
    steps_per_call: int = 50,
) -> None:
    """Sets the length of a run; `every` so many steps it is evaluated and saved."""
    config.num_steps, config.steps_per_call, config.batch_size = (
        num_steps,
        steps_per_call,
        batch_size,
    )
    config.eval_every = config.checkpoint_every = every
    config.evaluate_chunk = chunk


def set_pod(config: ConfigDict, *, per_chip: int, num_steps: int, every: int) -> None:
    """Changes a config to a TPU v5e 16x16 with `per_chip` examples of a batch on a chip."""
    config.batch_size = config.evaluate_chunk = per_chip * POD_CHIPS
    config.num_steps = num_steps
    config.eval_every = config.checkpoint_every = every
    config.mesh = ConfigDict(dict(data=-1))


def set_big_pod(config: ConfigDict, *, num_steps: int, every: int, warmup_steps: int) -> None:
    """As `set_pod` for layers whose channels fill a chip: 32 networks in bfloat16, recomputed."""
    set_pod(config, per_chip=32, num_steps=num_steps, every=every)
    config.optimizer.warmup_steps = warmup_steps
    config.model.dtype, config.model.remat = "bfloat16", True


def make_embedded(section: ConfigDict) -> None:
    """Makes a section read the images of this repository, if it has them."""
    # The results on Fashion-MNIST shall not depend on what a machine has; others are not embedded.
    section.source = "embedded" if section.name == "fashion_mnist" else ""


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
    make_embedded(section)
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

    "": the edit that Zhou et al. (2023a) show, contrast of CIFAR-10 and dilation of others.
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
    make_embedded(section)
    section.size = 16 if section.name == "cifar10" else 14
    section.channels = (1, 8, 8, 8)
    section.zoo_steps, section.zoo_batch_size = 300, 64
    section.dropout = (0.0, 0.5)
    section.runs = 4_000
    section.train_runs, section.valid_runs, section.test_runs = 2_400, 600, 1_000


def editing(preset: str, dataset: str, edit: str, *, model: ConfigDict) -> ConfigDict:
    """Returns what all editors of SIRENs are trained on and how: data, loop and optimizer.

    Args:
        preset: Of the config file.
        dataset: Name of the images; "": those of the preset.
        edit: As in `edited_siren_set`.
        model: `config.model` of the preset paper.
    """
    config = ConfigDict(dict(model=model))
    config.num_steps = 50_000  # Table 16
    config.batch_size = 32  # Table 16
    config.eval_every = config.checkpoint_every = 1_000  # released code
    config.best_metric = "-valid_mse"  # released code: early stopping on validation data
    config.evaluate_chunk = 64
    config.data = edited_siren_set(dataset or gray_images(preset), edit=edit)
    config.optimizer = optimizer("adam", 1e-3, "constant", 1_000)  # Table 16
    if preset == "cpu":
        make_siren_set_small(config.data, train=600, valid=50, test=100)
        set_loop(config, num_steps=1_500, batch_size=32, every=500, chunk=100)
        config.optimizer = optimizer("adam", 2e-3, "cosine", 100)
    elif preset == "pod":  # as one GPU of the paper
        set_big_pod(config, num_steps=5_000, every=250, warmup_steps=500)
    return config


def check_editing(config: ConfigDict) -> None:
    """Checks the sizes of `editing`.

    Raises:
        ValueError: Naming field, value and what is allowed.
    """
    require_at_least_one(config, "config", "batch_size", "evaluate_chunk")
    if len(config.data.shift) != 2:
        raise ValueError(f"config.data.shift={config.data.shift}: expected (rows, columns)")


def ranking(preset: str, dataset: str) -> ConfigDict:
    """Returns what all predictors of the accuracy of CNNs are trained on and how."""
    config = ConfigDict()
    config.num_steps = 75_000  # Table 12: 50 epochs
    config.batch_size = 8  # Table 12
    config.eval_every = config.checkpoint_every = 1_500  # released code: every epoch
    config.best_metric = "valid_tau"  # App. D.1: early stopping on validation tau
    config.evaluate_chunk = 500
    config.data = cnn_zoo(dataset)
    config.optimizer = ConfigDict(dict(name="adam", learning_rate=1e-3))  # Table 12
    if preset == "cpu":
        make_cnn_zoo_small(config.data)
        set_loop(config, num_steps=1_000, batch_size=32, every=100, chunk=500)
        config.optimizer = optimizer("adam", 1e-3, "cosine", 50)
    elif preset == "pod":
        set_ranking_pod(config)
    return config


def set_ranking_pod(config: ConfigDict) -> None:
    """Changes the config of a predictor to a pod: 8 networks a chip, as one GPU of the paper."""
    set_pod(config, per_chip=8, num_steps=3_000, every=150)
    config.steps_per_call = 50


def check_zoo(section: ConfigDict) -> None:
    """Checks that a zoo has the networks that its parts take.

    Raises:
        ValueError: Naming field, value and what is allowed.
    """
    require_at_least_one(
        section, "config.data", "train_runs", "valid_runs", "test_runs", "snapshots"
    )
    used = sum(section[f"{part}_runs"] for part in ("train", "valid", "test"))
    if not section.files and used > section.runs:
        raise ValueError(
            f"config.data.runs={section.runs}: train_runs + valid_runs + test_runs = {used}"
        )
    if section.files and section.snapshots > 1:
        raise ValueError("config.data.snapshots: the published zoo is read at its last step, use 1")


def predictor(kind: str) -> ConfigDict:
    """Returns `config.model` of a predictor with equivariant layers, or of STATNN."""
    return ConfigDict(
        dict(
            kind=kind,
            widths=(16, 16, 5),  # Table 12
            head_widths=(1_000, 1_000),  # Table 12
            head_dropout=0.0,
            dtype="float32",
        )
    )


def attention(**fields: object) -> ConfigDict:
    """Returns the sizes of a transformer on weights, those of the released code of INR2ARRAY."""
    return ConfigDict(
        dict(
            channels=256,
            num_blocks=6,
            num_heads=4,
            ff_ratio=4,
            frequencies=128,
            fourier_scale=3.0,
            dropout=0.0,
            share_ff=False,
            use_neurons=True,
            use_tensors=True,
            dtype="float32",
            remat=False,
        )
        | fields
    )
