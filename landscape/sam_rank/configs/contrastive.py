"""Two towers that tell pairs apart, and ranks of what they compute (Andriushchenko et al. 2023).

    lab train --config=landscape/sam_rank/configs/contrastive.py:cpu --config.model.bottleneck=8
    lab train --config=landscape/sam_rank/configs/contrastive.py:cpu --config.gradient.name=sam
    lab table landscape.sam_rank contrastive --preset=cpu
    lab compile --config=landscape/sam_rank/configs/contrastive.py:pod --topology=v5e:16x16 --quick

Presets: cpu (2 cores; halves of the embedded images, three seeds as one program; measured time and
result in results/contrastive.cpu.md), paper (one GPU of 80 GB with images and captions of COCO in
its memory, a file that the user makes, see `contrastive.pairs.CaptionsSpec`; not run), pod (TPU v5e
16x16 with 8 pairs a chip, data and large parameters in parts over all chips; compiled ahead of
time only).
"""

from ml_collections import ConfigDict

from common.config import choices, require_at_least_one
from common.data import data_sections

CHOICES = {"preset": ("cpu", "paper", "pod")}
ALLOWED = {
    "data.kind": ("captions", "halves"),
    "model.dtype": ("", "bfloat16", "float32"),
}
EPOCHS = 25  # released code
TEST = 1_280  # ten batches of 128, released code


def get_config(arg: str | None = None) -> ConfigDict:
    """Returns the config of "preset[,key=value...]", as `CHOICES` offers them."""
    preset = choices(arg, CHOICES)["preset"]
    config = ConfigDict()
    config.experiment = "landscape.sam_rank:contrastive"
    config.batch_size, config.num_steps, config.eval_every = 128, 16_150, 950
    config.keep_optimizer_state = True  # False: as in the released code, which lost it
    config.split_parameters = False  # over the devices, large arrays in parts
    config.data = ConfigDict(
        dict(
            kind="captions",
            file="coco_captions.npz",  # in $DATA_DIR
            size=384,
            captions=5,  # of every image
            length=32,
            num_train=82_783,
            num_test=TEST,
            shards=1,  # parts that training images lie in
        )
    )
    config.model = ConfigDict(
        dict(
            image=dict(stem=64, patch=8, hidden=192, layers=12, heads=3, mlp=768),  # R+Ti/16
            text=dict(vocabulary=28_996, hidden=768, layers=12, heads=12, mlp=3_072),  # BERT-base
            dim=768,
            bottleneck=0,  # neurons of a linear layer in front of the outputs; 0: none
            temperature=0.05,
            dtype="",
        )
    )
    config.optimizer = ConfigDict(dict(name="adam", learning_rate=1e-4, schedule="cosine"))
    # Ranks at these layers of the image tower; pairs are looked for in groups.
    config.watch = ConfigDict(dict(layers=(2, 4, 6, 8, 10, 12), group=128, chunk=128))
    if preset == "cpu":
        _set_cpu(config)
    elif preset == "pod":
        config.batch_size, config.num_steps, config.eval_every = 2_048, 1_000, 200
        config.optimizer.learning_rate, config.optimizer.warmup_steps = 4e-4, 100
        config.data.num_train, config.data.shards = 82_688, 256
        config.model.dtype = "bfloat16"
        config.split_parameters = True
        config.mesh = ConfigDict(dict(data=-1))
    return config


def _set_cpu(config: ConfigDict) -> None:
    """Changes data and towers to what two cores do in seconds."""
    halves = dict(kind="halves", cut="rows", held_out=0, shards=1)
    config.data = ConfigDict({**data_sections.embedded(num_train=1_000, num_test=TEST), **halves})
    config.model.image = ConfigDict(dict(stem=0, patch=7, hidden=48, layers=4, heads=3, mlp=192))
    del config.model["text"]
    config.model.dim = 64
    config.seed_group = 3
    # More and smaller updates than the paper's; with a warm-up the loss leaves chance early.
    config.batch_size = 64
    config.num_steps, config.steps_per_call, config.eval_every = 400, 100, 400
    config.optimizer.learning_rate, config.optimizer.warmup_steps = 2e-3, 40
    config.watch.layers, config.watch.chunk = (1, 2, 3, 4), 640


def check(config: ConfigDict) -> None:
    """Checks the values that only this experiment can judge.

    Raises:
        ValueError: Naming field, value and what is allowed.
    """
    model, watch = config.model, config.watch
    require_at_least_one(model, "config.model", "dim")
    require_at_least_one(watch, "config.watch", "chunk")
    for name in ("size", "num_train", "shards"):
        require_at_least_one(config.data, "config.data", name)
    if config.data.kind == "captions":
        require_at_least_one(config.data, "config.data", "captions", "length")
    if config.batch_size < 2:
        raise ValueError(
            f"config.batch_size={config.batch_size}: expected at least 2, or there is nothing to "
            "tell apart"
        )
    if not model.temperature > 0:
        raise ValueError(f"config.model.temperature={model.temperature}: expected above 0")
    if model.bottleneck < 0:
        raise ValueError(f"config.model.bottleneck={model.bottleneck}: expected at least 0")
    tests = config.data.get("held_out", 0) or config.data.num_test
    if watch.group < 2 or tests % watch.group:
        raise ValueError(
            f"config.watch.group={watch.group}: expected at least 2, and a divisor of the {tests} "
            "test pairs"
        )
    layers = range(1, model.image.layers + 1)
    if not watch.layers or not set(watch.layers) <= set(layers):
        raise ValueError(
            f"config.watch.layers={watch.layers}: expected some of 1 to {model.image.layers}"
        )
