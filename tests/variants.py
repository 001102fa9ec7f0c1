"""Every config that the papers of this repository offer, from `CHOICES` of their config files."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from common.config import load_config, offers
from common.papers import REPOSITORY, papers


class Variant(NamedTuple):
    """One way to run an experiment; `name` is "topic.paper.experiment.preset[.value]"."""

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
def lists(path: Path) -> dict[str, tuple[str, ...]]:
    """Returns what a config file offers to choose from: presets first, then data as a rule."""
    found = {key: some for key, some in offers(path).items() if isinstance(some, tuple)}
    assert next(iter(found), "") == "preset", f"{path}: CHOICES begins with the presets, a tuple"
    return found


def golden_variants(name: str, *, first: str = "") -> list[Variant]:
    """Returns every preset of a config file with every value of its second choice.

    Args:
        name: "topic.paper.experiment".
        first: The preset that comes before the others.
    """
    path = config_files()[name]
    presets, *others = lists(path).items()
    key, values = others[0] if others else ("", ())
    return [
        Variant(".".join((name, preset, value)), path, preset, (f"{key}={value}",))
        if value
        else Variant(f"{name}.{preset}", path, preset)
        for preset in sorted(presets[1], key=lambda preset: preset != first)
        for value in values or ("",)
    ]


def preset_variants() -> list[Variant]:
    """Returns every preset of every config file."""
    return [
        Variant(f"{name}.{preset}", path, preset)
        for name, path in config_files().items()
        for preset in lists(path)["preset"]
    ]


def pod_specs() -> list[str]:
    """Returns the preset `pod` of every experiment, as after --config=."""
    pods = [variant for variant in preset_variants() if variant.preset == "pod"]
    return [f"{variant.path.relative_to(REPOSITORY)}:pod" for variant in pods]


def choice_variants() -> list[Variant]:
    """Returns preset cpu with one choice at a time that is not the default one."""
    found = [
        Variant(f"{name}.cpu.{value}", path, "cpu", (f"{key}={value}",))
        for name, path in config_files().items()
        for key, values in lists(path).items()
        if key != "preset"
        for value in values
    ]
    return [variant for variant in found if loaded(variant.spec) != loaded(f"{variant.path}:cpu")]
