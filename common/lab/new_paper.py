"""`lab new`: the skeleton of a paper folder, small and running, and a test of it.

The files are those of `skeleton/`, with the names of topic and paper put in.
"""

import keyword
import re
import shutil
from pathlib import Path
from string import Template

from common.errors import UserError, nearest
from common.papers import REPOSITORY, TOPICS

SKELETON = Path(__file__).parent / "skeleton"
TEST = "test.py.txt"


def create(name: str) -> tuple[Path, ...]:
    """Writes the skeleton of the paper "topic.paper"; returns its files, relative to the checkout.

    All of them are written, or none.

    Raises:
        UserError: If the name is none, or something of that name is there.
    """
    topic, paper = _names(name)
    files = _files(topic, paper)
    for path in (Path(topic, paper), *files):
        if (REPOSITORY / path).exists():
            raise UserError(f"{path} is there already; choose another name, or remove it")
    if not (REPOSITORY / topic).exists():
        files[Path(topic, "__init__.py")] = f'"""What the papers of {topic}/ share."""\n'
    new = {_first_missing(REPOSITORY / path) for path in files}
    try:
        for path, text in files.items():
            (REPOSITORY / path).parent.mkdir(parents=True, exist_ok=True)
            (REPOSITORY / path).write_text(text)
    except BaseException:
        for path in new:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        raise
    return tuple(files)


def _first_missing(path: Path) -> Path:
    """Returns the outermost of a path and its folders that is not there."""
    return next(outer for outer in (*reversed(path.parents), path) if not outer.exists())


def _names(name: str) -> tuple[str, str]:
    """Returns topic and paper of "topic.paper"."""
    if not (REPOSITORY / "pyproject.toml").is_file():
        raise UserError("`lab new` works in a checkout of the repository only")
    topic, _, paper = name.partition(".")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", paper) or keyword.iskeyword(paper):
        raise UserError(
            f"paper {name!r}: expected TOPIC.PAPER, the paper in lower-case letters, digits and _"
        )
    if topic not in TOPICS:
        raise UserError(
            f"topic {topic!r} is unknown{nearest(topic, TOPICS)}; known: {', '.join(TOPICS)}; a "
            "new one is a name more in TOPICS of common/papers.py"
        )
    return topic, paper


def _files(topic: str, paper: str) -> dict[Path, str]:
    """Returns the text of every file by its path in the checkout."""
    title = paper.replace("_", " ").capitalize()
    files = {}
    for source in sorted(SKELETON.rglob("*.txt")):
        inside = source.relative_to(SKELETON).with_suffix("")  # without .txt
        is_test = source.name == TEST
        path = Path("tests", topic, f"test_{paper}.py") if is_test else Path(topic, paper, inside)
        text = Template(source.read_text())
        files[path] = text.substitute(topic=topic, paper=paper, title=title)
    return files
