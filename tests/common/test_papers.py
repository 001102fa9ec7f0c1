"""Papers are found by their files: nothing is imported, and near misses are named."""

import sys
from pathlib import Path

import pytest

from common import papers
from common.errors import UserError


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with three papers in two topics and things that are not papers."""
    for name, title in (("sciml/boon", "Boundaries."), ("nfn/zeta", "Z."), ("nfn/alpha", "")):
        folder = tmp_path / name
        (folder / "configs").mkdir(parents=True)
        text = f'"""{title}\n\nMore about it.\n"""\n' if title else ""
        (folder / "__init__.py").write_text(text + "raise RuntimeError('imported')\n")
    for name in ("long_run", "brief", "__init__"):
        (tmp_path / f"nfn/zeta/configs/{name}.py").write_text("raise RuntimeError('imported')\n")
    (tmp_path / "nfn/__init__.py").write_text("")
    (tmp_path / "nfn/notes").mkdir()  # no __init__.py: not a paper
    (tmp_path / "nfn/tasks").mkdir()
    (tmp_path / "nfn/tasks/__init__.py").write_text("")  # no configs: library of the topic
    (tmp_path / "elsewhere/paper").mkdir(parents=True)
    (tmp_path / "elsewhere/paper/__init__.py").write_text("")  # not a topic
    monkeypatch.setattr(papers, "REPOSITORY", tmp_path)
    return tmp_path


def test_papers_are_listed_by_topic_without_importing_them(tree: Path) -> None:
    before = set(sys.modules)

    found = papers.papers()

    assert [paper.name for paper in found] == ["nfn.alpha", "nfn.zeta", "sciml.boon"]
    assert [paper.title for paper in found] == ["alpha", "Z.", "Boundaries."]
    assert list(found[1].configs) == ["brief", "long_run"]
    assert found[1].configs["brief"] == tree / "nfn/zeta/configs/brief.py"
    assert found[0].configs == {}
    assert set(sys.modules) == before


@pytest.mark.usefixtures("tree")
def test_an_unknown_paper_is_named_with_the_nearest_one() -> None:
    assert papers.find_paper("nfn.zeta").name == "nfn.zeta"
    with pytest.raises(UserError, match=r"'nfn\.zetta' is unknown") as error:
        papers.find_paper("nfn.zetta")
    assert 'did you mean "nfn.zeta"' in str(error.value)
    assert "sciml.boon" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("tree")
def test_a_paper_without_tables_has_none() -> None:
    assert papers.tables(papers.find_paper("nfn.alpha")) == {}


@pytest.mark.usefixtures("tree")
def test_a_builder_lives_in_its_paper_or_beside_its_config_file(tmp_path: Path) -> None:
    (tmp_path / "own/sub").mkdir(parents=True)
    (tmp_path / "own/sub/mine.py").write_text("")

    assert papers.builder_folder("nfn.zeta:train", "") == tmp_path / "nfn/zeta"
    assert papers.builder_folder("mine.py:train", str(tmp_path / "own/sub")) == tmp_path / "own/sub"
    assert papers.builder_folder("sub/mine.py:train", str(tmp_path / "own")) == tmp_path / "own/sub"
    wrong = ("nfn.zeta", "nfn.zeta:", "nfn.zeta:not a name", "nfn.omega:train", "mine.py:train", "")
    for name in wrong:
        assert papers.builder_folder(name, str(tmp_path)) is None, name


def test_every_paper_of_this_repository_says_what_it_is_and_can_be_configured() -> None:
    found = papers.papers()

    assert found
    for paper in found:
        assert paper.title != paper.folder.name, f"{paper.name}: no docstring"
        assert paper.configs, f"{paper.name}: no config file"
        assert papers.find_paper(paper.name) == paper
