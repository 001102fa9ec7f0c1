"""The page in a real browser, by keyboard and by buttons, on large and on narrow screens."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rlhf.labelling import asking, store
from rlhf.labelling.asking import Pair
from tests.rlhf import browser as browsers
from tests.rlhf.browser import Browser, browsing
from tests.rlhf.desk import fill, game, rows, served, swing
from tests.rlhf.site import serving_from

pytestmark = pytest.mark.skipif(
    browsers.executable() is None, reason="needs a browser: apt-get install chromium"
)
SHOWING = "document.body.dataset.showing"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("browser")) as found:
        yield found
        assert found.errors == []  # no exception, nothing that the page's own policy forbids


def enter(browser: Browser, address: str, name: str) -> None:
    """Opens the page as a person who was never there."""
    browser.become(f"{name} at {address}")
    browser.open(address)
    browser.wait("document.getElementById('hello').open")
    browser.type(name)
    browser.press("Enter")
    browser.wait(f"{SHOWING} !== undefined && {SHOWING} !== ''")


def answer(browser: Browser, key: str) -> str:
    """Answers the pair on the screen by a key; returns the pair's nonce."""
    shown = browser.value(SHOWING)
    browser.press(key)
    browser.wait(f"{SHOWING} !== '{shown}' && document.body.dataset.outbox === '0'")
    return shown


def canvas(browser: Browser, side: str) -> list[float]:
    """Returns share and mean place of what is drawn on a canvas in the color of a body."""
    return browser.value(
        f"""(() => {{
          const canvas = document.getElementById('{side}');
          const {{ data, width, height }} =
            canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
          let [n, x, y] = [0, 0, 0];
          for (let i = 0; i < data.length; i += 4) {{
            if (data[i + 3] === 255 && Math.abs(data[i] - 48) + Math.abs(data[i + 1] - 86) +
                Math.abs(data[i + 2] - 211) < 30) {{
              n += 1; x += (i / 4) % width; y += Math.floor(i / 4 / width);
            }}
          }}
          return [n / (width * height), x / n / width, y / n / height];
        }})()"""
    )


def test_every_key_is_kept_as_it_was_meant_and_taken_back_by_u(
    browser: Browser, tmp_path: Path
) -> None:
    with serving_from(tmp_path, pairs=7) as page:
        path = page.path
        enter(browser, page.address, "Ada")
        keys = {"ArrowLeft": "left", "ArrowRight": "right", "ArrowUp": "equal", "ArrowDown": "skip"}
        typed = [(answer(browser, key), kept) for key, kept in keys.items()]
        taken_back = answer(browser, "ArrowLeft")
        browser.press("u")
        browser.wait("document.getElementById('said').textContent.startsWith('Taken back')")
        again = browser.value(SHOWING)
        assert again != taken_back
        typed.append((answer(browser, "ArrowDown"), "skip"))
        assert typed[-1][0] == again
        answer(browser, "ArrowUp")
        browser.press("x")  # no key of the page
        answer(browser, "ArrowLeft")
        browser.wait("document.body.dataset.state === 'empty'")
        assert "No clips left" in browser.value("document.getElementById('veil').textContent")
    with store.opened(path) as desk:
        said = rows(
            desk,
            "SELECT nonce, choice, left_is_a, undone IS NOT NULL FROM labels "
            "JOIN showings ON showing = showings.id ORDER BY labels.id",
        )
    side = {"tie": "equal", "none": "skip", ("a", 1): "left", ("a", 0): "right"}
    side |= {("b", 1): "right", ("b", 0): "left"}
    kept = {nonce: side.get(choice) or side[choice, left] for nonce, choice, left, _ in said}
    assert {nonce: kept[nonce] for nonce, _ in typed} == dict(typed)
    assert [nonce for nonce, *_, undone in said if undone] == [taken_back] and len(said) == 8


def test_clips_begin_together_stop_and_go_frame_by_frame(browser: Browser, tmp_path: Path) -> None:
    with serving_from(tmp_path, pairs=1) as page:
        enter(browser, page.address, "Bob")
        browser.press(" ")
        assert browser.value("pause.ariaPressed") == "true"
        places = []
        for _ in range(3):  # three frames on, three back: where it was
            places.append(canvas(browser, "left"))
            browser.press(".")
        for place in reversed(places):
            browser.press(",")
            np.testing.assert_allclose(canvas(browser, "left"), place, rtol=1e-6)
        assert places[0] != places[1]
        share, *_ = places[0]
        assert 0.02 < share < 0.2  # a rod of a fifth of the window's width
        browser.press("3")
        chosen = "document.querySelector('[data-speed][aria-checked=true]').dataset.speed"
        assert browser.value(chosen) == "2"
        browser.press(" ")
        before = browser.value("document.getElementById('played').style.transform")
        browser.wait(f"document.getElementById('played').style.transform !== '{before}'")


def test_a_pose_is_drawn_where_it_is(browser: Browser, tmp_path: Path) -> None:
    still = swing(0)
    for name, value in still.shown.items():
        value[:] = {"segments": [0, 0, 1, 0, 0.1], "circles": [0, 0, -1]}[name]
    with serving_from(tmp_path, pairs=0) as page:
        with store.opened(page.path) as desk:
            asking.ask(desk, tmp_path, 0, [Pair(0, still, still)], second_share=0)
        enter(browser, page.address, "Cid")
        browser.press(" ")
        share, x, y = canvas(browser, "left")
        shape = browser.value("[left.width, left.height]")
    scale = min(shape) / 2.6  # pixels for a unit of the window
    area = (0.2 * 1 + np.pi * 0.01) * scale**2 / (shape[0] * shape[1])
    assert share == pytest.approx(area, rel=0.04)  # edges are between two colors
    assert [x, y] == pytest.approx([0.5 + 0.5 * scale / shape[0], 0.5], abs=0.004)


def test_a_game_is_shown_as_the_images_that_it_is(browser: Browser, tmp_path: Path) -> None:
    with serving_from(tmp_path, pairs=1, clip=lambda seed: game(seed, color=True)) as page:
        enter(browser, page.address, "Dan")
        browser.press(" ")
        colors = browser.value(
            """(() => {
              const canvas = document.getElementById('left');
              const { data } =
                canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
              const found = {};
              for (let i = 0; i < data.length; i += 4) if (data[i + 3]) {
                found[data[i]] = (found[data[i]] ?? 0) + 1;
              }
              return found;
            })()"""
        )
    cell = colors["255"] / 2  # the ball has two cells of 24 x 20, no pixel is between two colors
    assert {*colors} == {"0", "160", "255"} and sum(colors.values()) == cell * 24 * 20


def test_two_people_share_the_pairs_and_see_each_other(browser: Browser, tmp_path: Path) -> None:
    with serving_from(tmp_path, pairs=10) as page:
        path = page.path
        for name in ("Ada", "Bob"):
            enter(browser, page.address, name)
        for _ in range(5):
            for name in ("Ada", "Bob"):
                browser.become(f"{name} at {page.address}")
                if browser.value(f"{SHOWING}"):
                    answer(browser, "ArrowLeft" if name == "Ada" else "ArrowUp")
        browser.wait("document.querySelectorAll('#raters li').length === 2")
        names = browser.value("[...raters.children].map((x) => x.firstChild.textContent)")
        assert names == ["Ada", "Bob"]
    with store.opened(path) as desk:
        pairs = [pair for (pair,) in rows(desk, "SELECT pair FROM labels")]
        each = rows(desk, "SELECT count(*) FROM labels GROUP BY rater")
    assert sorted(pairs) == sorted({*pairs}) and len(pairs) >= 9 and len(each) == 2


@pytest.mark.parametrize(("width", "height"), [(360, 640), (390, 844), (1280, 720)])
def test_everything_is_within_reach_on_screens_of_this_size(
    browser: Browser, tmp_path: Path, width: int, height: int
) -> None:
    with serving_from(tmp_path, pairs=3) as page:
        enter(browser, page.address, "Eve")
        browser.size(width, height, mobile=width < 500)
        found = browser.value(
            """[...document.querySelectorAll('canvas, [data-choice], .player button')].map((x) => {
              const box = x.getBoundingClientRect();
              return [box.left, box.right, box.top, box.bottom];
            })"""
        )
        assert browser.value("document.documentElement.scrollWidth") <= width
        for left, right, top, bottom in found:
            assert left >= 0 and right <= width and right - left >= 28
            assert top >= 0 and bottom <= height
        shown = browser.value(SHOWING)
        browser.click("[data-choice=equal]")
        browser.wait(f"{SHOWING} !== '{shown}'")


def test_the_page_can_be_used_without_seeing_and_without_a_mouse(
    browser: Browser, tmp_path: Path
) -> None:
    with serving_from(tmp_path, pairs=2) as page:
        enter(browser, page.address, "Fay")
        lacking = browser.value(
            """[...document.querySelectorAll('button, canvas, svg, input')].filter((x) =>
              !(x.getAttribute('aria-label') || x.textContent.trim() ||
                document.querySelector(`label[for=${x.id}]`))).map((x) => x.outerHTML)"""
        )
        assert lacking == []
        assert browser.value("said.ariaLive") == "polite"
        browser.press("Tab")  # who has given a name
        for _ in range(2):
            browser.press("Tab")
        ring = browser.value("getComputedStyle(document.activeElement).outlineStyle")
        choice = browser.value("document.activeElement.dataset.choice ?? ''")
        assert ring == "solid" and choice in ("left", "equal")
        shown = browser.value(SHOWING)
        browser.press("Enter")
        browser.wait(f"{SHOWING} !== '{shown}'")


@pytest.mark.slow
def test_an_answer_given_while_the_server_is_gone_is_sent_when_it_is_back(
    browser: Browser, tmp_path: Path
) -> None:
    path = fill(tmp_path, 4)
    with served(tmp_path) as page:
        enter(browser, page.address, "Gil")
        answer(browser, "ArrowLeft")
        page.kill()
        shown = browser.value(SHOWING)
        browser.press("ArrowUp")
        browser.wait("document.body.dataset.outbox === '1'")
        browser.wait("document.getElementById('said').textContent.includes('does not answer')")
        port = page.port
    with served(tmp_path, port=port):
        browser.wait("document.body.dataset.outbox === '0'")
        answer(browser, "ArrowRight")
    with store.opened(path) as desk:
        said = rows(
            desk,
            "SELECT choice FROM labels JOIN showings ON showing = showings.id "
            f"WHERE nonce = '{shown}'",
        )
        assert said == [("tie",)] and rows(desk, "SELECT count(*) FROM labels") == [(3,)]
