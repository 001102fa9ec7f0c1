"""`lab list`: what an experiment offers is read from its config file, whatever state that is in."""

from pathlib import Path

import pytest

from common.lab.listing import list_text
from common.papers import PaperInfo

OFFERED = """
CHOICES = {"preset": ("cpu", "paper"), "kind": ("np", "pt"), "rate": 0.5}
def get_config(arg=None): raise RuntimeError("no config is made")
"""


def paper(folder: Path, text: str) -> PaperInfo:
    config = folder / "fit.py"
    config.write_text(text)
    return PaperInfo("nfn.listed", "Listed", folder, {"fit": config})


def test_one_paper_is_listed_with_all_that_its_experiments_offer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    listed = paper(tmp_path, OFFERED)

    assert list_text([listed]).splitlines()[1] == "  experiment fit: fit.py (cpu, paper)"
    assert list_text([listed], details=True).splitlines()[2:] == [
        "    kind=np|pt",
        "    rate=FLOAT (0.5)",
    ]


@pytest.mark.parametrize("text", ["def get_config(:", "import nothing_like_it", OFFERED[:20]])
def test_a_config_file_that_cannot_be_read_is_listed_without_presets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    monkeypatch.chdir(tmp_path)

    assert "experiment fit: fit.py ()" in list_text([paper(tmp_path, text)])
    assert "fit.py" in caplog.text
