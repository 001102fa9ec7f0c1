"""Checkpoints that are either exactly what was saved or refused; the only importer of orbax.

A save is a snapshot on the host followed by work in the background: orbax writes the arrays,
`common.checkpoints.manifest` seals the folder with the SHA-256 of every file, and a rename commits
it. Orbax alone returns wrong numbers for most flipped bits, so that every restore verifies the seal
first. It also writes what it cannot read, so that the first save of a run is read back before it is
sealed.
"""

import contextlib
import errno
import os
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from absl import logging

from common.checkpoints import chatter, manifest, snapshot
from common.checkpoints.manifest import Manifest
from common.devices import distributed
from common.errors import DataError, UserError
from common.files.storage import remove

if TYPE_CHECKING:
    from orbax.checkpoint import v1 as ocp

PyTree = Any
Step = int | Literal["last", "best"]
_NAME = "state"  # orbax's folder for the arrays
_REFUSED = -1  # instead of a step: the lead process raises an error
_PLAIN = re.compile(r"[\w./=,+@-]*", re.ASCII)
_MISREAD = re.compile(r"[*?\[\]\\]")  # of these it is known
_OPEN_FOLDERS: list[int] = []
_NOTHING = {"nothing": np.zeros(1)}  # orbax stores neither empty trees nor empty arrays


class Restored(NamedTuple):
    """A verified checkpoint: the state on its devices and the `extra` saved with it."""

    step: int
    state: PyTree
    extra: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run: the newest `keep_last` and the best so far; a context manager.

    One object at a time writes to a folder. In a run of several processes every process makes the
    same calls in the same order; the lead process writes manifests, renames and deletes.

    Args:
        directory: Folder of the checkpoints, made if it is missing.
        keep_last: How many of the newest checkpoints to keep, at least 1.
        read_only: Only look: nothing is created, cleaned, renamed or saved.

    Raises:
        DataError: If the folder cannot be made or cleaned.
    """

    def __init__(
        self, directory: str | Path, *, keep_last: int = 2, read_only: bool = False
    ) -> None:
        if keep_last < 1:
            raise UserError(f"config.keep={keep_last}: expected an integer of at least 1")
        # Absolute: orbax refuses relative paths, and the caller may change its working directory.
        self._directory = Path(directory).absolute()
        self._keep_last = keep_last
        self._read_only = read_only
        self._is_lead = distributed.is_lead()
        (self._writer,) = _of_lead((os.getpid(),))
        self._is_proven = False  # that what is written here can be read back
        self._pending: Future[None] | None = None
        self._background = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        chatter.silence()
        misread = _MISREAD.search(str(self._directory))
        if misread and not distributed.is_single():  # whose name has to be the same in all
            raise UserError(
                f"{self._directory}: several processes cannot save in a folder with {misread[0]!r} "
                "in its name; choose another --workdir"
            )
        if self._is_lead and not read_only:
            with self._storage("the folder cannot be used"):
                self._directory.mkdir(parents=True, exist_ok=True)
                manifest.clean(self._directory)

    def save(
        self,
        step: int,
        state: PyTree,
        *,
        extra: Mapping[str, Any] | None = None,
        best: bool = False,
    ) -> None:
        """Takes a snapshot of `state`, then writes it in the background.

        When this returns, the snapshot is complete: the arrays may be donated or changed. Waits
        for an earlier save, whose errors it raises. An older checkpoint of `step` is replaced.

        Args:
            step: Number of the step, not negative.
            state: Pytree of arrays, scalars and typed keys.
            extra: Plain values stored with it, as JSON stores them.
            best: Whether this is the best state so far, kept until a better one is saved.

        Raises:
            DataError: If the earlier save failed, or this one at its start.
            UserError: If a leaf of `state` is not an array.
        """
        if self._read_only or step < 0:
            raise ValueError(f"step {step} cannot be saved (read_only={self._read_only})")
        self.wait()
        notes = manifest.plain(extra or {})
        leaves, arrays = snapshot.take(state)
        stored: PyTree = arrays or _NOTHING
        temporary = self._directory / f"tmp-{step}-{self._writer}"
        content = Manifest(step, best, leaves, notes, {})

        def start() -> Callable[[], None]:
            with self._storage(f"step {step} was not saved"), _context():
                folder = f"{_plain_name(self._directory)}/{temporary.name}"
                return orbax().save_async(folder, stored, checkpointable_name=_NAME).result

        def write() -> None:
            start()()
            if not self._is_proven:
                self._read_back(temporary.name, stored)
                self._is_proven = True

        # The processes of a run meet in orbax, in the order of their main threads. A single one
        # leaves all of it to the background, so that the loop waits for the snapshot only.
        written = write if distributed.is_single() else start()
        self._pending = self._background.submit(self._finish, written, temporary, content)

    def wait(self) -> None:
        """Waits until the last save is committed.

        Raises:
            DataError: If it failed; earlier checkpoints are intact.
        """
        if self._pending is None:
            return
        error = self._settle()
        failed = distributed.any_process(error is not None)
        if error is not None:
            raise error
        if failed:
            raise DataError(f"{self._directory}: another process could not save; see its message")

    def steps(self) -> tuple[int, ...]:
        """Returns the committed steps, ascending; waits for a save under way."""
        self.wait()
        return _of_lead(manifest.steps(self._directory))

    def best_step(self) -> int | None:
        """Returns the step last saved with `best=True`, None without one; waits for a save."""
        self.wait()
        best = manifest.best_step(self._directory)
        return next(iter(_of_lead(() if best is None else (best,))), None)

    def restore(self, abstract_state: PyTree, *, step: Step = "last") -> Restored | None:
        """Returns a verified checkpoint, or None if there is none of the kind asked for.

        "last" walks back to the newest valid checkpoint; every refused one is logged as a warning
        with step and reason, and kept as `refused-<step>`.

        Args:
            abstract_state: ShapeDtypeStructs with the shardings wanted, which need not be those
                of the saved state; without a sharding a leaf goes to the default device.
            step: "last", "best", or the number of a step.

        Raises:
            DataError: If the "best" or a numbered checkpoint is corrupt, or the number is missing.
            UserError: If the state has other paths, shapes or dtypes than the checkpoint.
        """
        self.wait()
        chosen: tuple[int, ...] = ()
        error = None
        if self._is_lead:
            try:
                chosen = self._choose(step)
            except DataError as refusal:  # raised below, once the other processes know
                chosen, error = (_REFUSED,), refusal
        chosen = _of_lead(chosen)
        if error is not None:
            raise error
        if chosen == (_REFUSED,):
            raise DataError(f"{self._directory}: refused by the lead process; see its message")
        return self._load(chosen[0], abstract_state) if chosen else None

    def close(self) -> None:
        """Waits for the last save and raises its error; call it, or use `with`."""
        try:
            self.wait()
        finally:
            self._background.shutdown()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
            return
        # Another error is on its way out, and other processes may not get here: only settle.
        failure = self._settle() if self._pending is not None else None
        if failure is not None:
            logging.error("%s", failure)
        self._background.shutdown()

    def _finish(self, written: Callable[[], None], temporary: Path, content: Manifest) -> None:
        """Runs in the background: no JAX computation and no collective but those of orbax."""
        try:
            with self._storage(f"step {content.step} was not saved"):
                written()  # returns when all processes have written
                if self._is_lead:
                    if not (temporary / manifest.ARRAYS).is_file():
                        raise OSError(errno.EIO, f"{manifest.ARRAYS} was not written")
                    manifest.write(
                        temporary,
                        step=content.step,
                        best=content.best,
                        leaves=content.leaves,
                        extra=content.extra,
                    )
                    manifest.commit(temporary, content.step)
                    manifest.prune(self._directory, self._keep_last, trusted=content.step)
        finally:
            if self._is_lead:  # of a failed save; after a commit there is nothing left
                for path in self._directory.glob(f"{temporary.name}*"):
                    with contextlib.suppress(OSError):
                        remove(path)

    def _read_back(self, name: str, stored: PyTree) -> None:
        """Checks that the arrays of a folder come back as they were given; raises OSError.

        What cannot be read, for whatever reason, is found while the state is still there: once the
        folder is sealed, its checksums vouch for it. The first save stands for those that follow:
        40 ms of a CPU each, and of several processes none has all arrays.
        """
        folder = f"{_plain_name(self._directory)}/{name}"
        found = _load_arrays(folder, stored)
        if not all(_same_bytes(found[path], array) for path, array in stored.items()):
            raise OSError(errno.EIO, "what is read back is not what was written")

    def _settle(self) -> BaseException | None:
        assert self._pending is not None
        error = self._pending.exception()
        self._pending = None
        return error

    def _choose(self, step: Step) -> tuple[int, ...]:
        """Returns the step to restore, as a tuple that is empty if there is none."""
        if step == "last":
            return self._newest_valid()
        number = manifest.best_step(self._directory) if step == "best" else step
        if number is None:
            return ()
        known = manifest.steps(self._directory)
        if number not in known:
            there = ", ".join(map(str, known)) or "none"
            raise DataError(f"{self._directory}: no checkpoint of step {number}; there: {there}")
        reason = manifest.problem(self._directory / str(number))
        if reason is not None:
            raise DataError(f"{self._directory}: checkpoint of step {number} is corrupt: {reason}")
        return (number,)

    def _newest_valid(self) -> tuple[int, ...]:
        known = manifest.steps(self._directory)
        for number in reversed(known):
            reason = manifest.problem(self._directory / str(number))
            if reason is None:
                return (number,)
            kept = str(number)
            if not self._read_only:
                with self._storage(f"step {number} could not be moved away"):
                    kept = manifest.refuse(self._directory, number)
            logging.warning(
                "checkpoint of step %d refused: %s (kept in %s)",
                number,
                reason,
                self._directory / kept,
            )
        if known:
            logging.warning("%s: no valid checkpoint is left", self._directory)
        return ()

    def _load(self, step: int, abstract_state: PyTree) -> Restored:
        folder = self._directory / str(step)
        saved = manifest.read(folder)
        snapshot.check_same(saved.leaves, abstract_state, str(folder))
        targets: PyTree = snapshot.targets(abstract_state)
        arrays: PyTree = {}
        if targets:
            path = f"{_plain_name(self._directory)}/{step}"
            with self._storage(f"step {step} could not be read"):
                arrays = _load_arrays(path, targets)
        return Restored(step, snapshot.rebuild(abstract_state, arrays), saved.extra)

    @contextlib.contextmanager
    def _storage(self, what: str) -> Iterator[None]:
        """Turns failures of the storage into a DataError that names the folder."""
        try:
            yield
        except (OSError, ValueError) as error:
            reason = _storage_reason(error)
            if reason is None:
                raise
            raise DataError(
                f"{self._directory}: {what}: {reason}; earlier checkpoints are intact"
            ) from error


def verify(directory: str | Path) -> dict[int, str | None]:
    """Returns {step: None if every byte is as written, else the reason} of all checkpoints."""
    return manifest.verify(directory)


def orbax() -> Any:
    """Returns the library, which takes long to import: no run needs it for its first step.

    Nor does what only looks at runs.
    """
    from orbax.checkpoint import v1

    return v1


def _context() -> "ocp.Context":
    context = orbax().Context()
    # Weights are noise to a compressor: 48 MB were written in half the time, 8 % larger.
    context.array.saving.use_compression = False
    # The snapshot is ours already.
    context.memory.deepcopy_host_arrays = False
    # In the background a folder that cannot be made would show only as a time-out.
    context.asynchronous.create_directories_asynchronously = False
    return context


def _plain_name(folder: Path) -> str:
    """Returns a path of a folder that holds plain characters only.

    Orbax looks for files by patterns and takes "[4,8]" in a folder's name for one: it then writes
    no list of the arrays, and says so to nobody. A folder whose name is not plain stays open and
    goes by its number, so that no number ever means two folders.
    """
    if _PLAIN.fullmatch(str(folder)):
        return str(folder)
    status = os.stat(folder)
    for number in _OPEN_FOLDERS:
        if os.path.samestat(os.fstat(number), status):
            break
    else:
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        _OPEN_FOLDERS.append(number)
    return f"/proc/self/fd/{number}"


def _load_arrays(folder: str, targets: PyTree) -> PyTree:
    """Returns arrays as `targets` describe them; raises OSError if they cannot be read."""
    try:
        with _context():
            return orbax().load(folder, targets, checkpointable_name=_NAME)
    except (ValueError, KeyError, FileNotFoundError) as error:
        if _storage_reason(error) and not isinstance(error, FileNotFoundError):
            raise
        text = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise OSError(errno.EIO, f"its arrays cannot be read back: {text}") from error


def _same_bytes(found: Any, wanted: np.ndarray) -> bool:
    found = np.asarray(found)
    same_kind = (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    return same_kind and found.tobytes() == wanted.tobytes()


def _storage_reason(error: Exception) -> str | None:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    code = re.search(r"os_error_code='(\d+)'", str(error))  # tensorstore's way
    return os.strerror(int(code[1])) if code else None


def _of_lead(numbers: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the numbers of the lead process in every process."""
    count = int(distributed.broadcast_from_lead(np.array(len(numbers))))
    if not count:
        return ()
    mine = np.array(numbers) if distributed.is_lead() else np.zeros(count, np.int64)
    return tuple(distributed.broadcast_from_lead(mine).tolist())
