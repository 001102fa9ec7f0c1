"""Draw winning tickets for fresh networks with a conditional VAE (Zhou et al. 2023, Table 5).

    lab train --config=nfn/equivariant/configs/tickets.py:cpu --workdir=runs
    lab table nfn.equivariant 5 --preset=cpu --workdir=runs
    lab compile --config=nfn/equivariant/configs/tickets.py:pod --topology=v5e:16x16

Presets: cpu (2 cores; measured time and result in results/5.cpu.md), paper (one GPU; not
run), pod (TPU v5e 16x16; compiled ahead of time only, tests/test_pods.py). The argument
chooses images and network too: ":paper,dataset=cifar10,network=cnn".
"""

from ml_collections import ConfigDict

from common.config import choices, require_at_least_one
from nfn.tasks import sections

CHOICES = {
    "preset": ("cpu", "paper", "pod"),
    "dataset": ("fashion_mnist", "mnist", "cifar10"),
    "network": ("mlp", "cnn"),
    "kind": ("np", "pt"),
}
ALLOWED = {
    "model.kind": (*CHOICES["kind"], "hnp"),  # hnp where it is not too large: `model.check_size`
    "model.dtype": sections.FLOATS,
    "data.name": CHOICES["dataset"],
    "data.network": CHOICES["network"],
    "data.scope": ("global", "layer"),
}


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config of "preset[,key=value...]", as `CHOICES` offers them.

    The default are the paper's MNIST, at preset cpu the embedded Fashion-MNIST, and the paper's
    networks: the CNN for CIFAR-10, the MLP for gray images.
    """
    args = choices(arg, CHOICES, dataset="", network="")
    dataset = args["dataset"] or sections.gray_images(args["preset"])
    network = args["network"] or ("cnn" if dataset == "cifar10" else "mlp")
    config = ConfigDict()
    config.experiment = "nfn.equivariant:tickets"
    config.num_steps = 10_000  # Table 13: 200 epochs of 400 pairs
    config.batch_size = 8  # Table 13: 4 or 8
    config.eval_every = config.checkpoint_every = 500
    config.best_metric = "valid_elbo"
    config.evaluate_chunk = 10
    config.data = _data(dataset, network)
    config.model = ConfigDict(
        dict(
            kind=args["kind"],
            channels=64,  # Table 13
            num_layers=4,  # Table 13
            latent_channels=5,  # App. D.2
            layer_norm=True,  # App. D.2
            dtype="float32",
            remat=True,
        )
    )
    config.optimizer = ConfigDict(dict(name="adam", learning_rate=1e-3))  # Table 13
    if args["preset"] == "cpu":
        _cpu(config)
    elif args["preset"] == "pod":
        sections.set_pod(config, per_chip=1, num_steps=400, every=50)
        config.data.chunk = 1
    return config


def check(config: ConfigDict) -> None:
    """Raises a ValueError where a value is wrong that only this experiment can judge."""
    if not 0 < config.data.sparsity < 1:
        raise ValueError(f"config.data.sparsity={config.data.sparsity}: expected 0 < share < 1")
    require_at_least_one(config, "config", "batch_size", "evaluate_chunk")
    require_at_least_one(config.model, "config.model", "channels", "num_layers", "latent_channels")
    names = ("steps", "batch_size", "rounds", "chunk", "num_train", "num_valid")
    require_at_least_one(config.data, "config.data", *names)
    if config.data.num_test < 2:
        raise ValueError(f"config.data.num_test={config.data.num_test}: expected at least 2")


def _data(dataset: str, network: str) -> ConfigDict:
    is_color, is_cnn = dataset == "cifar10", network == "cnn"
    return ConfigDict(
        dict(
            name=dataset,
            source="",  # "": the first of $DATA_DIR, Debian's package, fetched files
            # As many of every class as MNIST has of its rarest.
            train_per_class=5_000 if is_color else 5_400,
            test_per_class=1_000 if is_color else 890,
            size=32 if is_color else 28,
            network=network,
            channels=(128, 128, 128) if is_cnn else (),  # App. D.2: 3 convolutions
            widths=(128,) if is_cnn else (128, 128),  # App. D.2: 2 dense layers, or 3
            # The paper does not say how the networks are trained.
            steps=10_000,
            batch_size=64,
            learning_rate=1e-3,
            sparsity=0.95,  # Table 5
            scope="global",
            rounds=1,  # Sec. 3.3: one step of iterative magnitude pruning
            num_train=400,  # App. D.2
            num_valid=50,  # ours, to choose the checkpoint
            num_test=50,  # App. D.2
            seed=0,
            chunk=10,
            normalize=False,
        )
    )


def _cpu(config: ConfigDict) -> None:
    """The same claim on 2 cores: images of 14 x 14 pixels, a smaller network, narrow layers."""
    sections.make_embedded(config.data)
    config.data.size = 16 if config.data.name == "cifar10" else 14
    config.data.train_per_class, config.data.test_per_class = 800, 200
    if config.data.network == "cnn":
        config.data.channels, config.data.widths = (16, 16, 16), (16,)
    else:
        config.data.widths = (64, 64)
    config.data.steps, config.data.learning_rate = 1_000, 3e-3
    config.data.num_train, config.data.num_valid, config.data.num_test = 128, 16, 32
    config.data.chunk = 1
    config.data.normalize = True
    sections.set_loop(config, num_steps=1_000, batch_size=4, every=250, chunk=8, steps_per_call=25)
    config.model.channels, config.model.num_layers, config.model.remat = 16, 2, False
    config.optimizer = sections.optimizer("adam", 3e-3, "cosine", 0)
