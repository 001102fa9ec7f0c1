"""INR2ARRAY: an autoencoder that turns SIRENs into arrays (Zhou et al. 2023, arXiv 2305.13546).

    lab train --config=nfn/transformer/configs/inr2array.py:cpu --workdir=runs
    lab train --config=nfn/transformer/configs/inr2array.py:cpu,kind=np --workdir=runs
    lab compile --config=nfn/transformer/configs/inr2array.py:pod --topology=v5e:16x16

Presets: cpu (2 cores; measured as a part of results/classification.cpu.md), paper (one GPU;
not run), pod (TPU v5e 16x16; compiled ahead of time only, tests/test_pods.py). The numbers of
paper are those of the authors' released code; the text of the paper could not be read. The argument
chooses the images and the encoder too: ":paper,dataset=cifar10,kind=np".
"""

from ml_collections import ConfigDict

from common.config import choices, require_at_least_one
from nfn.tasks import sections

CHOICES = {
    "preset": ("cpu", "paper", "pod"),
    "dataset": ("fashion_mnist", "mnist", "cifar10"),
    "kind": ("nft", "np", "hnp"),
}
ALLOWED = {
    "model.kind": CHOICES["kind"],
    "model.inputs": ("weights", "canonical"),
    "model.decoder": ("sitzmann", "additive"),
    "model.dtype": sections.FLOATS,
    "data.name": CHOICES["dataset"],
    "task.target": ("siren", "image"),
    "task.loss": ("mse", "l1"),
}


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config of "preset[,key=value...]", as `CHOICES` offers them."""
    args = choices(arg, CHOICES)
    config = ConfigDict()
    config.experiment = "nfn.transformer:inr2array"
    config.num_steps = 200_000  # released code
    config.batch_size = 64  # released code
    config.eval_every = config.checkpoint_every = 1_000  # released code: best on validation data
    config.best_metric = "-valid_mse"
    config.evaluate_chunk = 64
    config.retrieval_images = 1_000
    config.data = sections.siren_set(args["dataset"], copies=11)  # released code: the original + 10
    if args["dataset"] == "fashion_mnist":
        config.data.train_per_class = 5_500  # released code
    config.model = _model(args["dataset"])
    config.model.kind = args["kind"]
    config.task = ConfigDict(
        dict(
            target="siren",  # what is redrawn: the picture of the SIREN, or the true image
            loss="mse",  # or l1; the released step calls the loss with its default
            augment=False,  # ours: SIREN and image mirrored and shifted
            max_shift=0,  # pixels
            aligned=False,  # all copies of an image in one batch
        )
    )
    config.optimizer = sections.optimizer("adamw", 1e-4, "cosine", 10_000)
    config.optimizer.weight_decay = 0.01
    if args["preset"] == "cpu":
        _cpu(config)
    elif args["preset"] == "pod":
        sections.set_big_pod(config, num_steps=20_000, every=500, warmup_steps=1_000)
    return config


def check(config: ConfigDict) -> None:
    """Raises a ValueError where a value is wrong that only this experiment can judge."""
    require_at_least_one(config, "config", "batch_size", "evaluate_chunk", "retrieval_images")
    names = ("channels", "num_blocks", "num_heads", "ff_ratio", "num_latents", "latent_width")
    require_at_least_one(config.model, "config.model", *names)
    copies = config.data.copies
    if config.task.aligned and config.batch_size % copies:
        raise ValueError(
            f"config.batch_size={config.batch_size}: aligned batches hold all "
            f"config.data.copies={copies} fits of an image; expected a multiple"
        )
    if not 0 <= config.task.max_shift < config.data.size:
        raise ValueError(
            f"config.task.max_shift={config.task.max_shift}: expected 0 or more pixels, fewer than "
            f"config.data.size={config.data.size}"
        )


def _model(dataset: str) -> ConfigDict:
    return sections.attention(
        kind="nft",
        inputs="weights",  # or canonical
        num_probes=0,
        num_latents=16,  # this and the next: released code
        latent_width=256,
        spatial=True,
        decoder="additive" if dataset == "cifar10" else "sitzmann",
        decoder_widths=(256, 256),
    )


def _cpu(config: ConfigDict) -> None:
    """The same claim on 2 cores: the SIRENs of nfn.equivariant's Table 3, narrow and shallow."""
    sections.make_siren_set_small(config.data, train=900, valid=100, test=200)
    config.data.copies = 4
    sections.set_loop(config, num_steps=2_000, batch_size=32, every=500, chunk=250)
    config.model.channels, config.model.num_blocks, config.model.ff_ratio = 32, 2, 2
    config.model.frequencies, config.model.fourier_scale = 16, 0.5
    config.model.num_latents, config.model.latent_width = 4, 64
    config.model.decoder_widths = (64, 64)
    config.optimizer.learning_rate, config.optimizer.warmup_steps = 2e-3, 100
