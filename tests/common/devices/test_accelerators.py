"""What the files of the kernel say about accelerators, on machines made of such files."""

import importlib.machinery
import sys
import types
from collections.abc import Mapping
from pathlib import Path

import pytest

from common.devices import accelerators


def machine(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def pci(number: int, vendor: str, kind: str) -> dict[str, str]:
    folder = f"sys/bus/pci/devices/0000:00:{number:02x}.0"
    return {f"{folder}/vendor": f"{vendor}\n", f"{folder}/class": f"{kind}\n"}


# A virtual machine of Google's cloud: its network card and disk have the vendor of its TPUs.
CLOUD = pci(4, "0x1ae0", "0x020000") | pci(5, "0x1ae0", "0x010802")
MACHINES = {
    "laptop": ({"dev/null": ""}, ()),
    "cloud": (CLOUD, ()),
    "gpu": ({"dev/nvidia0": "", "dev/nvidiactl": ""}, ("NVIDIA GPU",)),
    "driver without a gpu": ({"dev/nvidiactl": ""}, ()),
    "tpu v4": ({**CLOUD, "dev/accel0": ""}, ("TPU",)),
    "tpu v5e": ({"dev/vfio/0": "", "dev/vfio/vfio": ""}, ("TPU",)),
    "tpu without device files": ({**CLOUD, **pci(6, "0x1ae0", "0x120000")}, ("TPU",)),
}


@pytest.mark.parametrize(("files", "kinds"), MACHINES.values(), ids=MACHINES)
def test_accelerators_are_those_of_the_machine(
    tmp_path: Path, files: dict[str, str], kinds: tuple[str, ...]
) -> None:
    assert accelerators.present(machine(tmp_path, files)) == kinds


def test_the_tpu_compiler_hides_no_accelerator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    laptop = machine(tmp_path / "laptop", {"dev/null": ""})
    tpu = machine(tmp_path / "tpu", {"dev/accel0": ""})
    compiler = types.ModuleType("libtpu")
    compiler.__spec__ = importlib_spec("libtpu")
    monkeypatch.setitem(sys.modules, "libtpu", compiler)

    assert accelerators.only_compiles_for_tpus(laptop)
    assert not accelerators.only_compiles_for_tpus(tpu)

    plugin = types.ModuleType("jax_plugins")
    plugin.__spec__ = importlib_spec("jax_plugins")
    monkeypatch.setitem(sys.modules, "jax_plugins", plugin)
    assert not accelerators.only_compiles_for_tpus(laptop)


def importlib_spec(name: str):
    return importlib.machinery.ModuleSpec(name, None)


def test_an_accelerator_that_is_not_used_is_named_with_the_cure(tmp_path: Path) -> None:
    gpu = machine(tmp_path, {"dev/nvidia0": ""})

    assert "NVIDIA GPU" in accelerators.overlooked("cpu", gpu)
    assert "ACCELERATOR=cuda" in accelerators.overlooked("cpu", gpu)
    assert accelerators.overlooked("gpu", gpu) == ""
    assert accelerators.overlooked("cpu", tmp_path / "none") == ""
