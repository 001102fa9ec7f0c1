"""Which seeds a run trains, what it is called, and which row of a group belongs to which seed.

With `config.seed_group` = n > 1 one run trains the seeds seed .. seed + n - 1: state, keys and
metrics have a leading axis with one row for each (`common.experiment.build`), the run folder is
`seeds<a>-<b>/`, and each seed gets its own result.json in `seed<k>/`. All else asks here.
"""

from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from common.errors import UserError


def seeds_of(config: ConfigDict) -> range:
    """Returns the seeds that a run of this config trains, in the order of their rows."""
    return range(config.seed, config.seed + config.seed_group)


def is_group(config: ConfigDict) -> bool:
    """Returns whether state, keys and metrics have a row for each seed."""
    return len(seeds_of(config)) > 1


def run_name(config: ConfigDict) -> str:
    """Returns the name of the run folder: "seed3", or "seeds3-5" of a group."""
    seeds = seeds_of(config)
    return f"seeds{seeds[0]}-{seeds[-1]}" if is_group(config) else result_name(seeds[0])


def result_name(seed: int) -> str:
    """Returns the name of the folder with the result.json of one seed."""
    return f"seed{seed}"


def in_words(config: ConfigDict) -> str:
    """Returns "seed 3" or "seeds 3 to 5"."""
    seeds = seeds_of(config)
    return f"seeds {seeds[0]} to {seeds[-1]}" if is_group(config) else f"seed {seeds[0]}"


def of_seed(config: ConfigDict, seed: int, values: dict[str, Any]) -> dict[str, Any]:
    """Returns the named values of one seed, of a run that has a row for each."""
    if not is_group(config):
        return values
    row = seeds_of(config).index(seed)
    return {name: rows[row] for name, rows in values.items()}


def in_groups(seeds: Sequence[int], size: int) -> tuple[tuple[int, ...], ...]:
    """Returns the seeds in groups of `size` successive ones, as `config.seed_group` trains them.

    Raises:
        UserError: If they are not whole groups.
    """
    groups = tuple(tuple(seeds[i : i + size]) for i in range(0, len(seeds), size))
    for group in groups:
        if group != tuple(range(group[0], group[0] + size)):
            raise UserError(
                f"seeds {','.join(map(str, seeds))}: config.seed_group={size} trains {size} "
                f"successive seeds together; {','.join(map(str, group))} is no such group"
            )
    return groups
