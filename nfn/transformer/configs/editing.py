"""Edit images by changing the weights of the SIRENs fitted to them (Zhou et al. 2023, NFT).

    lab train --config=nfn/transformer/configs/editing.py:cpu,edit=erode --workdir=runs
    lab table nfn.transformer editing --preset=cpu --workdir=runs
    lab compile --config=nfn/transformer/configs/editing.py:pod --topology=v5e:16x16

Presets: cpu (2 cores; measured time and result in results/tableediting.cpu.md), paper (one GPU;
not run), pod (TPU v5e 16x16; compiled ahead of time only, tests/nfn/test_pods.py). The text of the
paper could not be read: data and training are those of the authors' paper before it
(nfn.equivariant, here "NFN"), the blocks those of their released code for INR2ARRAY. Without
`dataset` and `edit`: MNIST with dilation, CIFAR-10 with contrast; cpu: Fashion-MNIST.
"""

from ml_collections import ConfigDict

from common.config import at_least_one, choices, one_of
from nfn.tasks import sections

CHOICES = {
    "preset": ("cpu", "paper", "pod"),
    "dataset": ("fashion_mnist", "mnist", "cifar10"),
    "edit": ("dilate", "erode", "gradient", "contrast", "translate", "rotate"),
}


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config of "preset[,key=value...]", as `CHOICES` offers them."""
    args = choices(arg, CHOICES, dataset="", edit="")
    dataset = args["dataset"] or ("fashion_mnist" if args["preset"] == "cpu" else "mnist")
    config = ConfigDict()
    config.experiment = "nfn.transformer:editing"
    config.num_steps = 50_000  # NFN, Table 16
    config.batch_size = 32  # NFN, Table 16
    config.eval_every = config.checkpoint_every = 1_000  # released code of NFN
    config.best_metric = "-valid_mse"  # released code of NFN: early stopping on validation data
    config.evaluate_chunk = 64
    config.data = sections.edited_siren_set(dataset, edit=args["edit"])
    config.model = _model()
    config.editor = ConfigDict(
        dict(
            canonical=False,  # ours
            initial_scale=0.01,  # released code of NFN
        )
    )
    config.optimizer = ConfigDict(
        dict(name="adam", learning_rate=1e-3, schedule="constant", warmup_steps=1_000)  # NFN
    )
    if args["preset"] == "cpu":
        _cpu(config)
    elif args["preset"] == "pod":  # v5e 16x16: 32 networks a chip, as one GPU of the paper
        config.batch_size = config.evaluate_chunk = 32 * 256
        config.num_steps = 5_000
        config.eval_every = config.checkpoint_every = 250
        config.optimizer.warmup_steps = 500
        config.model.dtype, config.model.remat = "bfloat16", True
        config.mesh = ConfigDict(dict(data=-1))
    return config


def check(config: ConfigDict) -> None:
    """Checks the values that only this experiment can judge.

    Raises:
        ValueError: Naming field, value and what is allowed.
    """
    one_of("config.data.name", config.data.name, CHOICES["dataset"])
    one_of("config.data.edit", config.data.edit, CHOICES["edit"])
    one_of("config.model.dtype", config.model.dtype, ("float32", "bfloat16"))
    at_least_one(config.model, "config.model", "channels", "num_blocks", "num_heads", "ff_ratio")
    at_least_one(config, "config", "batch_size", "evaluate_chunk")
    if len(config.data.shift) != 2:
        raise ValueError(f"config.data.shift={config.data.shift}: expected (rows, columns)")


def _model() -> ConfigDict:
    return ConfigDict(
        dict(
            channels=256,  # released code, INR2ARRAY
            num_blocks=3,  # could not be read; as many as NFN has layers
            num_heads=4,  # released code, INR2ARRAY
            ff_ratio=4,  # released code, INR2ARRAY
            frequencies=128,  # released code, INR2ARRAY
            fourier_scale=3.0,  # released code, INR2ARRAY
            dropout=0.0,  # released code, INR2ARRAY
            share_ff=False,
            use_neurons=True,
            use_tensors=True,
            dtype="float32",
            remat=False,
        )
    )


def _cpu(config: ConfigDict) -> None:
    """The same claims on 2 cores: the SIRENs of NFN's preset cpu, two narrow blocks."""
    sections.make_siren_set_small(config.data, train=600, valid=50, test=100)
    config.num_steps, config.batch_size, config.steps_per_call = 1_500, 32, 50
    config.eval_every = config.checkpoint_every = 500
    config.evaluate_chunk = 100
    config.model.channels, config.model.num_blocks = 16, 2
    config.model.num_heads, config.model.ff_ratio = 2, 2
    config.model.frequencies, config.model.fourier_scale = 8, 0.5
    config.optimizer = ConfigDict(
        dict(name="adam", learning_rate=5e-3, schedule="cosine", warmup_steps=100)
    )
