"""Every config that the papers of this repository offer: experiment, preset and data set."""

import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from ml_collections import ConfigDict

from common.config import load_config
from common.papers import papers


class Variant(NamedTuple):
    """One way to run an experiment; `name` is "topic.paper.experiment.preset[.dataset]"."""

    name: str
    path: Path
    preset: str
    options: tuple[str, ...] = ()

    @property
    def arg(self) -> str:
        """What follows the config file: "paper,dataset=mnist"."""
        return ",".join((self.preset, *self.options))

    @property
    def spec(self) -> str:
        """What follows --config=."""
        return f"{self.path}:{self.arg}"


@cache
def loaded(spec: str) -> ConfigDict:
    """Returns the config, locked and shared by all tests."""
    return load_config(spec)


@cache
def config_files() -> dict[str, Path]:
    """Returns all config files by "topic.paper.experiment"."""
    return {
        f"{paper.name}.{experiment}": path
        for paper in papers()
        for experiment, path in paper.configs.items()
    }


@cache
def config_module(path: Path) -> ModuleType:
    """Returns the config file as a module; it names its choices in PRESETS and the like."""
    spec = importlib.util.spec_from_file_location(f"_variants_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def golden_variants(name: str, *, first: str = "") -> list[Variant]:
    """Returns every preset of a config file, with every data set or equation to choose.

    Args:
        name: "topic.paper.experiment".
        first: The preset that comes before the others.
    """
    path, found = config_files()[name], []
    module = config_module(path)
    for preset in sorted(module.PRESETS, key=lambda preset: preset != first):
        choices = [f"dataset={x}" for x in getattr(module, "DATASETS", ())]
        choices += [f"pde={x}" for x in getattr(module, "PDES", ())]
        for choice in choices or [""]:
            parts = (name, preset, choice.partition("=")[2]) if choice else (name, preset)
            options = (choice,) if choice else ()
            found.append(Variant(".".join(parts), path, preset, options))
    return found


def preset_variants() -> list[Variant]:
    """Returns every preset of every config file."""
    return [
        Variant(f"{name}.{preset}", path, preset)
        for name, path in config_files().items()
        for preset in config_module(path).PRESETS
    ]


def kind_variants() -> list[Variant]:
    """Returns every kind of model (`KINDS`) but the default one, at preset cpu."""
    found = []
    for name, path in config_files().items():
        default = loaded(f"{path}:cpu")
        kinds = [
            Variant(f"{name}.cpu.{kind}", path, "cpu", (f"kind={kind}",))
            for kind in getattr(config_module(path), "KINDS", ())
        ]
        found += [variant for variant in kinds if loaded(variant.spec) != default]
    return found
