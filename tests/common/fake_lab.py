"""A stand-in for `lab train` in tests of tables and sweeps: no JAX, done in a moment.

It writes the result.json that a run would, and one line for each call into `<workdir>/calls`. The
field `kind` chooses what happens: "broken" fails, "wait" runs until it is signalled and exits with
75, "silent" ends without a result, any other kind measures 10 (a), 20 (b), ... plus the seed.
"""

import os
import signal
import sys
import time
from pathlib import Path

from common.config import config_hash, load_config
from common.files.json_files import write_json
from common.run_folders.records import run_directory


def main(arguments: list[str]) -> int:
    flags = dict(word.removeprefix("--").split("=", 1) for word in arguments[1:] if "=" in word)
    spec, workdir = flags.pop("config"), Path(flags.pop("workdir"))
    fields = {k.removeprefix("config."): v for k, v in flags.items() if k.startswith("config.")}
    config = load_config(spec, fields)
    prepares = "--prepare" in arguments
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / "calls").open("a") as calls:
        word = "prepare" if prepares else "train"
        calls.write(f"{word} {config.kind} {config.seed} {len(os.sched_getaffinity(0))}\n")
    if config.data.size == 0 if prepares else config.kind == "broken":
        print("first line\nlab: error: this kind is broken", file=sys.stderr)
        return 3
    if prepares or config.kind == "silent":
        return 0
    if config.kind == "wait" and not (workdir / "go").exists():
        return wait(workdir)
    directory = run_directory(workdir, config)
    for seed in range(config.seed, config.seed + config.seed_group):
        value = 10.0 * (ord(config.kind[0]) - ord("a") + 1) + seed
        folder = directory.parent / f"seed{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        result = {
            "status": "complete",
            "metrics": {"last": {"accuracy": value / 100, "loss": value}, "best": {}},
            "config_hash": config_hash(config),
            "seed": seed,
            "wall_time_s": 2.0,
            "data": {"set": "fake images", "size": config.data.size},
            "environment": {"command": arguments, "commit": "0" * 40, "packages": {"jax": "0"}},
        }
        write_json(folder / "result.json", result)
    return 0


def wait(workdir: Path) -> int:
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    (workdir / "waiting").touch()
    while not stopped:
        time.sleep(0.01)
    (workdir / "saved").touch()
    return 75


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
