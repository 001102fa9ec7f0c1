"""What a process does when the line to another one of its run breaks, or says a word."""

import socket
import threading
from collections.abc import Iterator

import pytest

from common.devices import interrupts, lifeline


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[lifeline._Line, dict, list[str]]]:
    """A line of process 0 to processes 1 and 2, their ends, and what was said when it ended."""
    said: list[str] = []
    ends = dict(zip((1, 2), (socket.socketpair() for _ in range(2)), strict=True))
    monkeypatch.setattr(lifeline, "OWN_WORDS_SECONDS", 0.2)
    monkeypatch.setattr(interrupts, "end_now", lambda text, code: said.append(f"{code} {text}"))
    line = lifeline._Line({number: pair[0] for number, pair in ends.items()})
    yield line, {number: pair[1] for number, pair in ends.items()}, said
    line.leave("bye")
    for pair in ends.values():
        for end in pair:
            end.close()


def listened() -> None:
    """Returns when the thread of the line has nothing more to wait for."""
    for thread in threading.enumerate():  # it may have ended before anybody looks
        if thread.name == "lifeline":
            thread.join(timeout=10)
            assert not thread.is_alive()


def test_a_broken_line_ends_this_process_and_tells_the_others_which_one_is_gone(lines) -> None:
    _, ends, said = lines
    ends[2].close()
    listened()

    assert len(said) == 1 and said[0].startswith("75 process 2 of 1 is gone: it was killed")
    assert "start all processes again" in said[0]
    assert ends[1].recv(64) == b"gone 2\n"


def test_what_process_0_heard_of_another_one_is_believed(lines) -> None:
    _, ends, said = lines
    ends[1].sendall(b"gone 7\n")
    listened()

    assert said[0].startswith("75 process 7 of 1 is gone")


def test_whoever_says_goodbye_is_not_missed(lines) -> None:
    _, ends, said = lines
    for end in ends.values():
        end.sendall(b"bye\n")
        end.close()
    listened()

    assert said == []


def test_an_error_of_another_process_leaves_time_for_own_words(lines) -> None:
    line, ends, said = lines
    ends[1].sendall(b"error\n")
    ends[1].close()
    line.leave("error")  # the same error here, said by the command line
    ends[2].sendall(b"bye\n")
    listened()

    assert said == []
    assert ends[2].recv(64) == b"error\n"


def test_without_own_words_the_error_of_another_one_ends_this_process(lines) -> None:
    _, ends, said = lines
    ends[1].sendall(b"error\n")
    ends[1].close()
    listened()

    assert said[0].startswith("75 process 1 of 1 ended with an error, which is in what it printed")
    assert ends[2].recv(64) == b"gone 1\n"
