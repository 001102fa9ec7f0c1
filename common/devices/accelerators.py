"""Which accelerators the machine has, as files of the kernel say: asked before JAX is imported."""

import importlib.metadata
import importlib.util
from pathlib import Path

# PCI vendor of TPUs, whose virtual network cards and disks it is too: classes 0x02 and 0x01.
_GOOGLE, _NETWORK_OR_DISK = "0x1ae0", ("0x01", "0x02")
EXTRAS = {"NVIDIA GPU": "cuda", "TPU": "tpu"}  # what `make setup ACCELERATOR=` calls them


def present(root: Path = Path("/")) -> tuple[str, ...]:
    """Returns the kinds of accelerators that are here: "NVIDIA GPU", "AMD GPU", "TPU".

    Args:
        root: Where `dev` and `sys` are.
    """
    kinds = {
        "NVIDIA GPU": any((root / "dev").glob("nvidia[0-9]*")),
        "AMD GPU": (root / "dev/kfd").exists(),
        "TPU": any((root / "dev").glob("accel[0-9]*"))
        or any((root / "dev").glob("vfio/[0-9]*"))
        or any(map(_is_tpu, (root / "sys/bus/pci/devices").glob("*"))),
    }
    return tuple(kind for kind, found in kinds.items() if found)


def only_compiles_for_tpus(root: Path = Path("/")) -> bool:
    """Returns whether libtpu is here for `lab compile` only: looking for TPUs is slow and noisy.

    Not if there may be anything better than the CPU: a TPU, or a plugin of JAX for another device.
    """
    if importlib.util.find_spec("libtpu") is None or "TPU" in present(root):
        return False
    plugins = importlib.metadata.entry_points(group="jax_plugins")
    return importlib.util.find_spec("jax_plugins") is None and not plugins


def overlooked(platform: str, root: Path = Path("/")) -> str:
    """Returns what to do about accelerators that are here and not used, "" if there are none.

    Args:
        platform: Of the devices that JAX has: "cpu", "gpu", "tpu".
        root: Where `dev` and `sys` are.
    """
    kinds = present(root)
    if platform != "cpu" or not kinds:
        return ""
    extras = [f"`make setup ACCELERATOR={EXTRAS[kind]}`" for kind in kinds if kind in EXTRAS]
    cure = f"; see {' or '.join(extras)}" if extras else ""
    return f"this machine has an accelerator ({', '.join(kinds)}), but JAX runs on the CPU{cure}"


def _is_tpu(device: Path) -> bool:
    try:
        vendor, kind = ((device / name).read_text().strip() for name in ("vendor", "class"))
    except OSError:
        return False
    return vendor == _GOOGLE and not kind.startswith(_NETWORK_OR_DISK)
