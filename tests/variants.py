"""Every config that the papers of this repository offer: experiment, preset and data set."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from common.config import load_config
from common.papers import papers


class Variant(NamedTuple):
    """One way to run an experiment; `name` is "topic.paper.experiment.preset[.dataset]"."""

    name: str
    path: Path
    preset: str
    options: tuple[str, ...] = ()

    @property
    def spec(self) -> str:
        """What follows --config=."""
        return f"{self.path}:{','.join((self.preset, *self.options))}"


def config_files() -> dict[str, Path]:
    """Returns all config files by "topic.paper.experiment"."""
    return {
        f"{paper.name}.{experiment}": path
        for paper in papers()
        for experiment, path in paper.configs.items()
    }


def config_module(path: Path) -> ModuleType:
    """Returns the config file as a module; it names its choices in PRESETS and the like."""
    spec = importlib.util.spec_from_file_location(f"_variants_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def golden_variants() -> list[Variant]:
    """Returns every preset of every config file, with every data set or equation to choose."""
    found = []
    for name, path in config_files().items():
        module = config_module(path)
        for preset in module.PRESETS:
            choices = [f"dataset={x}" for x in getattr(module, "DATASETS", ())]
            choices += [f"pde={x}" for x in getattr(module, "PDES", ())]
            for choice in choices or [""]:
                parts = (name, preset, choice.partition("=")[2]) if choice else (name, preset)
                options = (choice,) if choice else ()
                found.append(Variant(".".join(parts), path, preset, options))
    return found


def model_variants() -> list[Variant]:
    """Returns every preset, and at preset cpu every kind of model (`KINDS`) where there are any."""
    found = []
    for name, path in config_files().items():
        module = config_module(path)
        found += [Variant(f"{name}.{preset}", path, preset) for preset in module.PRESETS]
        kinds = [
            Variant(f"{name}.cpu.{kind}", path, "cpu", (f"kind={kind}",))
            for kind in getattr(module, "KINDS", ())
        ]
        default = load_config(f"{path}:cpu")
        found += [variant for variant in kinds if load_config(variant.spec) != default]
    return found
