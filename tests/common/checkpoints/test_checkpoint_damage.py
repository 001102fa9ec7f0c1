"""Damaged files, full disks and dead writers: nothing corrupt is ever returned."""

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from absl import logging

from common.checkpoints import manifest
from common.checkpoints.checkpoint import Checkpoints
from common.errors import DataError
from common.files import json_files
from tests.common.states import abstract, assert_same, make_state


def flip(path: Path, rng: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    path.write_bytes(content)


def truncate(path: Path, rng: np.random.Generator) -> None:
    os.truncate(path, int(rng.integers(path.stat().st_size)))


def delete(path: Path, rng: np.random.Generator) -> None:
    del rng
    path.unlink()


@pytest.mark.parametrize(("damage", "trials"), [(flip, 40), (truncate, 20), (delete, 20)])
def test_all_damage_is_detected_and_the_step_before_used(
    saved: Path, tmp_path: Path, logged_warnings: list[str], damage: Callable, trials: int
) -> None:
    rng = np.random.default_rng(trials)
    names = [p.relative_to(saved) for p in sorted((saved / "2").rglob("*")) if p.is_file()]
    if damage is not delete:  # an empty file has nothing to flip or cut off
        names = [name for name in names if (saved / name).stat().st_size]
    rounds = [rng.permutation(len(names)) for _ in range(1 + trials // len(names))]
    order = [names[i] for i in np.concatenate(rounds)]
    like, wanted = abstract(make_state()), make_state(1.0)
    for trial, name in enumerate(order[:trials]):
        folder = Path(shutil.copytree(saved, tmp_path / str(trial)))
        damage(folder / name, rng)
        # Every byte of every file is covered: there is no harmless damage to tell apart.
        reason = manifest.verify(folder)[2]
        assert reason is not None and Path(name).name in reason
        if trial % 8 == 0:
            with Checkpoints(folder) as checkpoints:
                restored = checkpoints.restore(like)
            assert restored is not None and restored.step == 1
            assert_same(restored.state, wanted)
            assert f"step 2 refused: {reason}" in logged_warnings[-1]
    assert manifest.verify(saved) == {1: None, 2: None}


def test_a_manifest_that_was_edited_is_refused(saved_copy: Path) -> None:
    path = saved_copy / "2" / "MANIFEST.json"
    content = json.loads(path.read_text())
    content["extra"]["offset"] += 1
    path.write_text(json.dumps(content))
    assert manifest.verify(saved_copy)[2] == "MANIFEST.json does not match its own digest"


def test_names_in_a_manifest_never_become_paths(saved_copy: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("secret")
    manifest.write(saved_copy / "2", step=2, best=False, leaves=(), extra={})
    content = json.loads((saved_copy / "2" / "MANIFEST.json").read_text())
    content.pop("digest")
    content["files"]["../../outside"] = {"bytes": 6, "sha256": "0" * 64}
    content["digest"] = json_files.digest(content)
    (saved_copy / "2" / "MANIFEST.json").write_text(json.dumps(content))
    assert manifest.verify(saved_copy)[2] == "../../outside is missing"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EIO])
def test_a_storage_error_is_raised_at_the_next_call_and_harms_nothing(
    saved_copy: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise OSError(code, os.strerror(code))

    like = abstract(make_state())
    with Checkpoints(saved_copy) as checkpoints:
        with monkeypatch.context() as patch:
            patch.setattr(manifest, "write", fail)
            checkpoints.save(3, make_state(3.0))
            with pytest.raises(
                DataError, match=f"step 3 was not saved: {os.strerror(code)}"
            ) as info:
                checkpoints.wait()
        assert str(saved_copy) in str(info.value)
        assert sorted(os.listdir(saved_copy)) == ["1", "2"]
        assert manifest.verify(saved_copy) == {1: None, 2: None}
        checkpoints.save(3, make_state(3.0))  # there is room again
        restored = checkpoints.restore(like)
    assert restored is not None and restored.step == 3


def test_orbax_writing_too_much_is_a_data_error(
    saved_copy: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    large = {"x": np.random.default_rng(0).normal(size=300_000)}
    checkpoints = Checkpoints(saved_copy)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        checkpoints.save(3, large)
        with pytest.raises(DataError, match="step 3 was not saved: File too large"):
            checkpoints.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(os.listdir(saved_copy)) == ["1", "2"]
    assert "Traceback" not in capfd.readouterr().err


def test_a_folder_that_cannot_be_made_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/checkpoints: .*Not a directory"):
        Checkpoints(tmp_path / "file" / "checkpoints")


def test_an_error_of_the_caller_is_not_replaced_by_one_of_the_save(
    saved_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(manifest, "write", fail)
    logged: list[str] = []
    monkeypatch.setattr(logging, "error", lambda text, *args: logged.append(text % args))
    checkpoints = Checkpoints(saved_copy)
    checkpoints.save(3, make_state())
    with pytest.raises(ZeroDivisionError), checkpoints:
        _ = 1 / 0
    assert "step 3 was not saved" in logged[0]


def test_leftovers_of_dead_writers_are_cleaned_and_complete_ones_committed(
    saved_copy: Path,
) -> None:
    process = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True
    )
    dead = int(process.stdout)
    (saved_copy / f"tmp-3-{dead}.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    (saved_copy / f"tmp-4-{os.getppid()}").mkdir()  # its writer is alive
    (saved_copy / "2").rename(saved_copy / f"tmp-2-{dead}")  # killed between sealing and renaming
    (saved_copy / f"tmp-2-{dead}-deleted").mkdir()
    (saved_copy / "tmp-notes").mkdir()  # not ours
    Checkpoints(saved_copy).close()
    assert sorted(os.listdir(saved_copy)) == ["1", "2", f"tmp-4-{os.getppid()}", "tmp-notes"]
    assert manifest.verify(saved_copy) == {1: None, 2: None}
