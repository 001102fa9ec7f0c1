"""One bad file costs a line that names it, never a page, a list or a traceback."""

import json
import random
import re
import shutil
from pathlib import Path

import pytest

from common import papers
from common.errors import DataError
from common.files import json_files
from common.lab import cli, listing
from common.results.report import write_report
from common.results.table_files import read_table
from common.verdicts import HOLDS, NOT_RUN
from tests.common.damage import KINDS
from tests.common.results.test_report import Page, save, table

PAPER = "nfn.equivariant"


@pytest.fixture
def paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The results of a paper, which the test may damage; there is no other paper."""
    found = papers.find_paper(PAPER)
    folder = tmp_path / "paper"
    (folder / "results").mkdir(parents=True)
    shutil.copytree(found.folder / "tables", folder / "tables")
    for name in ("5.cpu.json", "6.cpu.json"):
        shutil.copy(found.folder / "results" / name, folder / "results")
    monkeypatch.setattr(papers, "papers", lambda: (found._replace(folder=folder),))
    return folder / "results"


QUICK = ("cut off", "field missing", "bits flipped")


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind not in QUICK)) for kind in KINDS]
)
def test_a_damaged_table_leaves_the_others_on_the_page_and_in_the_lists(
    kind: str, paper: Path, tmp_path: Path, logged_warnings: list[str]
) -> None:
    file = paper / "5.cpu.json"
    good, page = file.read_bytes(), tmp_path / "page.html"
    for seed in range(2):
        file.write_bytes(KINDS[kind](good, random.Random(seed)))
        logged_warnings.clear()

        write_report(None, None, page)
        texts = listing.claims_text("cpu"), listing.list_text()

        assert "Table 6 of nfn.equivariant" in page.read_text()
        assert all("table 6" in text and text.count("✔") >= 1 for text in texts)
        if logged_warnings:
            with pytest.raises(DataError, match=re.escape(str(file))) as info:
                read_table(file)
            assert "\n" not in str(info.value)
            assert len(logged_warnings) == 3 and all(str(file) in w for w in logged_warnings)
            assert "Table 5 of" not in page.read_text()
            assert all(listing.DAMAGED in text for text in texts)
        else:  # the damage is to a number or a text: it is shown
            read_table(file)
            assert "Table 5 of" in page.read_text()


def test_an_edited_number_of_a_table_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "1.cpu.json"
    file.write_text(json.dumps(json_files.sealed(table())))
    assert read_table(file)["cells"][0]["values"] == {"0": 0.5, "1": 0.7}
    file.write_text(file.read_text().replace("0.7", "0.8"))
    with pytest.raises(DataError, match=r"1.cpu\.json.*it was changed after"):
        read_table(file)


def test_a_claim_without_its_cell_is_not_run(paper: Path) -> None:
    file = paper / "6.cpu.json"
    data = json.loads(file.read_text())
    (row,) = [r for r in listing.table_rows() if r.table.name == "6"]
    before = {claim["status"] for claim in row.claims("cpu")}
    del data["digest"]
    data["cells"] = data["cells"][:1]
    file.write_text(json.dumps(data))

    assert before == {HOLDS}
    assert {claim["status"] for claim in row.claims("cpu")} == {NOT_RUN}


def test_runs_are_listed_compared_and_shown_whatever_a_file_of_one_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], logged_warnings: list[str]
) -> None:
    runs, random_ = tmp_path / "runs", random.Random(0)
    folders = [runs / "paper" / "experiment" / "abcdef012345" / f"seed{k}" for k in (0, 1)]
    config = {"experiment": "paper:experiment", "best_metric": "-loss", "learning_rate": 0.1}
    result = {
        "status": "complete",
        "step": 9,
        "best_step": None,
        "config_hash": "abcdef012345",
        "metrics": {"last": {"loss": 0.25}, "best": None},
    }
    contents = {
        "config.json": json.dumps(config),
        "result.json": json.dumps(result),
        "environment.json": json.dumps({"earlier_sessions": [{"commit": "a"}]}),
        "metrics.jsonl": '{"step": 9, "kind": "eval", "loss": 0.25}\n',
    }
    save(tmp_path / "results", table())
    for folder in folders:
        folder.mkdir(parents=True)
    for name, content in contents.items():
        for kind in KINDS.values():
            for folder in folders:
                for other, text in contents.items():
                    (folder / other).write_text(text)
            bad = folders[1] / name
            bad.write_bytes(kind(content.encode().rstrip(), random_) + b"\n")
            commands = {
                "list": ["runs", "list", f"--workdir={runs}"],
                "compare": ["runs", "compare", str(folders[0]), str(folders[1])],
                "report": ["report", f"--workdir={runs}", f"--results={tmp_path / 'results'}"],
            }
            commands["report"].append(f"--out={tmp_path / 'page.html'}")
            ended = {}
            for command, words in commands.items():
                logged_warnings.clear()
                code = cli.main(words)
                out, err = capsys.readouterr()
                ended[command] = (code, out, "\n".join([err, *logged_warnings]))

            for code, _, err in ended.values():
                assert "Traceback" not in err and code in (0, 4), err
            listed = "abcdef012345/seed0  complete     9  loss 0.25"
            assert listed in ended["list"][1]
            assert ended["list"][0] == ended["report"][0] == 0
            page = Page((tmp_path / "page.html").read_text())
            assert "Table 1 of topic.paper" in page.text and page.open == []
            if "abcdef012345/seed1" not in ended["list"][1]:
                assert ended["compare"][0] == 4
                assert all(str(bad) in ended[c][2] for c in commands), ended
                assert not re.search(r"error: .*error: ", ended["compare"][2])
