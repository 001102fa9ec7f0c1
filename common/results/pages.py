"""A table's JSON as a Markdown page and as text for the terminal: pure functions of the JSON."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from common.aggregates import aggregate, measured, number, number_of
from common.progress import duration
from common.results import grids
from common.results.check import summary
from common.results.claims_text import (
    LEGEND,
    comparison,
    in_lines,
    mark,
    matrix,
    reasons,
    scores,
    sentences,
)
from common.results.curve_grid import curve_grid
from common.results.grids import Grid
from common.verdicts import FAILS, HOLDS, KINDS, NOT_RUN, confidence

PAGE_NOTE = "Written by `{command}` from `{stem}.json`; not edited by hand."
COLORS = {HOLDS: "\x1b[32m", FAILS: "\x1b[31m", NOT_RUN: "\x1b[33m"}


def render(data: Mapping[str, Any]) -> str:
    """Returns the Markdown page of a table's JSON; equal JSON gives equal bytes.

    First what it came to, then claims by settings, the numbers, the figure, and why what does not
    hold does not; all else is folded away.
    """
    why_not = [f"**{statements}**: {reason}" for statements, reason in reasons(data)]
    parts = [
        f"# {heading(data)}\n",
        f"**{grids.escape(sentences(data))}**\n" if data["claims"] else "",
        f"{published}\n" if (published := summary(data)) else "",
        f"{caption(data)}\n",
        _claims(data),
        *(_numbers(family, cells) for family, cells in families(data)),
        f"![{data['title']}]({data['figure']})\n" if data["figure"] else "",
        _section("Why not", [grids.escape(line) for line in why_not]),
        _section("Problems", [grids.escape(line) for line in problem_lines(data)]),
        _folded("Every comparison", _comparisons(data)),
        _folded("Notes", grids.bullets([grids.escape(note) for note in data["notes"]])),
        _folded("Deviations from the paper's configuration", grids.bullets(deviation_lines(data))),
        _folded("Data", grids.bullets(data_lines(data, code=True))),
        _folded("Runs", grids.markdown(runs_grid(data), numbers=False)),
        _folded("Provenance", grids.bullets([f"{k}: {t}" for k, t in provenance_items(data)])),
        PAGE_NOTE.format(command=data["provenance"]["command"], stem=result_stem(data)),
    ]
    return "\n".join(part for part in parts if part) + "\n"


def render_text(data: Mapping[str, Any], *, width: int = 100, color: bool = False) -> str:
    """Returns the table, its claims and its deviations for a terminal of `width` columns."""
    blocks = [grids.wrapped(heading(data), width)]
    blocks += [grids.wrapped(sentences(data), width)] if data["claims"] else []
    for family, cells in families(data):
        blocks.append("\n".join(filter(None, (family, grids.text(cells, width)))))
    blocks.append(grids.wrapped(caption(data, code=False), width))
    lines = []
    for claim in data["claims"]:
        first, more = in_lines(claim, width)
        lines += [f"{COLORS[claim['status']]}{first}\x1b[0m" if color else first, *more]
    differing = ", ".join(deviation_lines(data, code=False))
    for title, found in (
        ("Claims", lines),
        ("Problems", [grids.wrapped(line, width, "  ") for line in problem_lines(data)]),
        ("Notes", [grids.wrapped(line, width, "  ") for line in data["notes"]]),
        ("Deviations from the paper", [grids.wrapped(differing, width, "  ")] if differing else []),
        ("Data", [grids.wrapped(line, width, "  ") for line in data_lines(data)]),
    ):
        blocks += ["\n".join([title, *found])] if found else []
    return "\n\n".join(filter(None, blocks)) + "\n"


def families(data: Mapping[str, Any]) -> list[tuple[str, Grid]]:
    """Returns the numbers by metric family, rows by settings beside the paper's; then curves."""
    names = dict.fromkeys(cell["family"] for cell in data["cells"])
    return [*((name, grid(data, name)) for name in names), *curve_grid(data)]


def grid(data: Mapping[str, Any], family: str) -> Grid:
    """Returns rows by settings of one family, the paper's number wherever a column has one."""
    own = [cell for cell in data["cells"] if cell["family"] == family]
    cells = {(cell["row"], cell["setting"]): cell for cell in own}
    rows = dict.fromkeys(row for row, _ in cells)
    settings = dict.fromkeys(setting for _, setting in cells)
    published = {setting for (_, setting), cell in cells.items() if cell["paper"]}
    header = [""]
    for setting in settings:
        header += [f"{setting}, paper", f"{setting}, ours"] if setting in published else [setting]
    lines = []
    for row in rows:
        line = [row]
        for setting in settings:
            cell = cells.get((row, setting))
            line += [paper_text(cell)] if setting in published else []
            line += [ours_text(cell, data)]
        lines.append(tuple(line))
    return Grid(tuple(header), tuple(lines))


def runs_grid(data: Mapping[str, Any]) -> Grid:
    """Returns one line for each distinct configuration: what it is, its hash, seeds and time."""
    header = ("cells", "configuration", "hash", "seeds", "wall time of a seed")
    lines = []
    for run in data["runs"]:
        columns: dict[str, list[str]] = {}
        for row, column in run["cells"]:
            columns.setdefault(row, []).append(column)
        cells = "; ".join(f"{row}: {' / '.join(names)}" for row, names in columns.items())
        fields = " ".join(f"{key}={_value(value)}" for key, value in run["overrides"].items())
        function = [f"by {run['function']}"] if run["function"] else []
        times = sorted(run["wall_time_s"].values())
        time = " to ".join(dict.fromkeys(duration(t) for t in (*times[:1], *times[-1:])))
        place = [f"of {run['config']}"] if "config" in run else []
        variant = run.get("variant", "")
        named = " ".join(filter(None, (variant, fields))) or "as in the file"
        configuration = " ".join([named, *place, *function])
        lines.append((cells, configuration, run["config_hash"], " ".join(run["wall_time_s"]), time))
    return Grid(header, tuple(lines))


def heading(data: Mapping[str, Any]) -> str:
    """Returns "Table 3 of nfn.equivariant: title"."""
    return f"Table {data['table']} of {data['paper']}: {data['title']}"


def caption(data: Mapping[str, Any], *, code: bool = True) -> str:
    """Returns where the paper's numbers stand and what ± means."""
    mark = "`" if code else ""
    unit = f" Unit: {data['unit']}." if data["unit"] else ""
    spread = f" The paper's ±: {data['paper_spread']}." if data["paper_spread"] else ""
    return (
        f"Source: {data['source']}. Preset {mark}{data['preset']}{mark}.{unit} Ours: mean ± "
        f"sample standard deviation over {number_of(len(data['seeds']), 'seed')}.{spread}"
    )


def paper_text(cell: Mapping[str, Any] | None) -> str:
    """Returns the published number as printed there, or "–" if there is none."""
    if cell is None:
        return ""
    if cell["paper"] is None:
        return "–"
    spread = cell["paper"]["spread"]
    return number(cell["paper"]["value"]) + ("" if spread is None else f" ± {number(spread)}")


def ours_text(cell: Mapping[str, Any] | None, data: Mapping[str, Any]) -> str:
    """Returns "mean ± std", with "(n of N)" where seeds are missing."""
    if cell is None:
        return ""
    if not cell["values"]:
        return "failed" if cell["problems"] else "not run"
    scaled = {int(seed): value * data["scale"] for seed, value in cell["values"].items()}
    wanted = len(data["seeds"])
    count = "" if len(scaled) == wanted else f" ({len(scaled)} of {wanted})"
    return f"{measured(aggregate(scaled))}{count}"


def problem_lines(data: Mapping[str, Any]) -> list[str]:
    """Returns one line for each cell and seed that has no value although it was run."""
    return [
        f"{cell['row']}, {cell['column']}, seed {seed}: {text}"
        for cell in data["cells"]
        for seed, text in cell["problems"].items()
    ]


def deviation_lines(data: Mapping[str, Any], *, code: bool = True) -> list[str]:
    """Returns one line for each config field in which the preset differs from the paper's."""
    mark = "`" if code else ""
    return [
        f"{mark}{d['field']}{mark} = {mark}{_value(d['ours'])}{mark}"
        f" (paper: {mark}{_value(d['paper'])}{mark})"
        + (f" of {', '.join(d['of'])}" if d.get("of") else "")
        for d in data["deviations"]
    ]


def facts_line(facts: Mapping[str, Any], *, code: bool = False) -> str:
    """Returns "key: value; key: value" of facts about the data."""
    mark = "`" if code else ""
    return "; ".join(f"{key}: {mark}{_value(value)}{mark}" for key, value in facts.items())


def data_lines(data: Mapping[str, Any], *, code: bool = False) -> list[str]:
    """Returns what the data were: first what all runs have in common, then what differs."""
    facts = data["data"]
    if len(facts) < 2:
        return [facts_line(entry, code=code) for entry in facts]
    common = {k: v for k, v in facts[0].items() if all(e.get(k) == v for e in facts)}
    rest = [{k: v for k, v in entry.items() if k not in common} for entry in facts]
    lines = [facts_line(common, code=code)] if common else []
    return lines + [facts_line(entry, code=code) for entry in rest if entry]


def provenance_items(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns (name, text) of how the numbers were made, the command first."""
    items = []
    for key, value in data["provenance"].items():
        if key == "command":
            text = f"`{value}`"
        elif key.endswith("_s"):
            key, text = key.removesuffix("_s"), duration(value)
        elif isinstance(value, Mapping):
            text = ", ".join(f"{name} {_value(version)}" for name, version in value.items())
        elif isinstance(value, list):
            text = ", ".join(_value(item) for item in value)
        else:
            text = _value(value)
        items.append((key.replace("_", " "), text))
    return items


def result_stem(data: Mapping[str, Any]) -> str:
    """Returns the file name of a result without its ending: "table3.cpu"."""
    return f"{data['table']}.{data['preset']}"


def _value(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def _claims(data: Mapping[str, Any]) -> str:
    if not data["claims"]:
        return ""
    parts = [f"## Claims\n\n{scores(data['claims'])}\n"]
    for kind, meaning in KINDS.items():
        own = {**data, "claims": [c for c in data["claims"] if c["kind"] == kind]}
        if own["claims"]:
            sources = ", ".join(dict.fromkeys(c["source"] for c in own["claims"] if c["source"]))
            title = f"{kind}: {meaning}" + (f" ({sources})" if sources else "")
            parts.append(f"*{title}*\n\n{grids.markdown(matrix(own))}")
    return "\n".join([*parts, f"{LEGEND} {confidence(len(data['seeds']))}\n"])


def _numbers(family: str, cells: Grid) -> str:
    return f"## {family[:1].upper()}{family[1:] or 'Numbers'}\n\n{grids.markdown(cells)}"


def _comparisons(data: Mapping[str, Any]) -> str:
    lines = []
    for claim in data["claims"]:
        lines.append(f"{mark(claim)} {claim['statement']} {claim['problem']}")
        lines += [f"  {comparison(part)}" for part in claim["parts"]]
    return "".join(
        f"{'  ' * line.startswith('  ')}- {' '.join(grids.escape(line).split())}\n"
        for line in lines
    )


def _section(title: str, lines: Sequence[str]) -> str:
    return f"## {title}\n\n{grids.bullets(lines)}" if lines else ""


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{content}\n</details>\n" if content else ""
