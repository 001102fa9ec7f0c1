"""What the suite costs: CPU seconds of every test, by topic, against the share of each topic.

A plugin of pytest. Every test counts the CPU time of its process and of the children it waited
for, fixtures included (a shared one is paid by the test that needs it first). The table is printed
by `make test-cost`, which compiles everything cold; a topic over its share is a warning, never a
failure: machines differ in speed by a factor of three.
"""

import os
from collections import defaultdict
from collections.abc import Generator
from typing import Any

import pytest

from common.papers import TOPICS

# CPU seconds of the default suite on two quiet cores, compiled cold: 960 in all, 8 minutes.
SHARES = {
    "common": 180,
    "nfn": 150,
    "sciml": 150,
    "landscape": 150,
    "rlhf": 120,
    "finetune": 60,
    "reserve": 150,
}
_PROPERTY = "cpu_seconds"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--costs", action="store_true", help="print CPU seconds by topic and file")
    parser.addoption(
        "--costly", type=int, default=0, metavar="N", help="and of the N costliest tests"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_Costs(config), "costs-of-the-suite")


def cpu_seconds(*, children: bool = True) -> float:
    """Returns the CPU time of this process, and of the children it waited for."""
    times = os.times()
    waited = times.children_user + times.children_system if children else 0.0
    return times.user + times.system + waited


def topic(path: str) -> str:
    """Returns whose share a test file counts for: "tests/nfn/test_layers.py" for nfn's."""
    folder = path.split("/")[1]
    return folder if folder in TOPICS else "common"


def table(seconds: dict[str, float], *, whole: float) -> list[str]:
    """Returns the costs by topic as lines.

    Args:
        seconds: CPU seconds by test file.
        whole: CPU seconds of all processes: starting them and collecting tests included.
    """
    by_topic: dict[str, float] = defaultdict(float)
    for path, cost in seconds.items():
        by_topic[topic(path)] += cost
    lines = [f"{'topic':12}{'CPU s':>8}{'share':>8}"]
    for name, share in SHARES.items():
        over = "  over its share" if by_topic[name] > share else ""
        lines.append(f"{name:12}{by_topic[name]:8.0f}{share:8}{over}")
    lines.append(f"{'start-up':12}{whole - sum(seconds.values()):8.0f}")
    lines.append(f"{'all':12}{whole:8.0f}{sum(SHARES.values()):8}")
    return lines


def costliest(seconds: dict[str, float], *, most: int) -> list[str]:
    """Returns the most expensive files, or tests, as lines below an empty one."""
    names = sorted(seconds, key=lambda name: -seconds[name])[:most]
    return ["", *(f"{seconds[name]:8.1f}  {name}" for name in names)]


class _Costs:
    """Measures in the processes that run tests, adds up in the one that reports."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.seconds: dict[str, float] = defaultdict(float)
        self.tests: dict[str, float] = {}
        self.workers = 0.0

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput[_PROPERTY] = cpu_seconds()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.workers += getattr(node, "workeroutput", {}).get(_PROPERTY, 0.0)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self.start = cpu_seconds()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.when == "teardown":
            report.user_properties.append((_PROPERTY, cpu_seconds() - self.start))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties:
            if name == _PROPERTY and report.when == "teardown":
                self.tests[report.nodeid] = float(str(value))
                self.seconds[report.location[0]] += self.tests[report.nodeid]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        # The children of the process that reports are its workers, who said it themselves.
        whole = cpu_seconds(children=self.workers == 0.0) + self.workers
        lines = table(self.seconds, whole=whole)
        over = [line for line in lines if line.endswith("over its share")]
        lines += costliest(self.seconds, most=12)
        costly = self.config.getoption("--costly")
        lines += costliest(self.tests, most=costly) if costly else []
        if self.config.getoption("--costs") or costly:
            terminalreporter.section("CPU seconds")
            for line in lines:
                terminalreporter.write_line(line)
        for line in over:
            words = line.split()
            terminalreporter.write_line(
                f"warning: tests of {words[0]} took {words[1]} CPU s, their share is {words[2]}"
            )
