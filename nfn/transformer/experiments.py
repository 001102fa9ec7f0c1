"""The experiments of the paper by name."""

from typing import Any

EXPERIMENTS: dict[str, Any] = {}
