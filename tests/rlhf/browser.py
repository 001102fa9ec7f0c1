"""Chromium without a window, driven over two pipes: no package, no port, no driver."""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SECONDS = 60.0
KEYS = {
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
    "Enter": 13,
    "Tab": 9,
    " ": 32,
}


def executable() -> str | None:
    """Returns the browser of this machine, None without one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One browser; each person has a window, and what it remembers, of their own."""

    def __init__(self, reader: int, writer: int):
        self._reader, self._writer, self._rest = reader, writer, b""
        self._number, self.session = 0, ""
        self._sessions: dict[str, str] = {}
        self.errors: list[str] = []

    def call(self, method: str, **options: Any) -> dict[str, Any]:
        """Returns what the browser answers; events on the way are looked at for errors."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": options}
        if self.session:
            message["sessionId"] = self.session
        os.write(self._writer, json.dumps(message).encode() + b"\0")
        while True:
            said = self._read()
            if said.get("id") == self._number:
                assert "error" not in said, f"{method}: {said['error']}"
                return said["result"]
            self._note(said)

    def _read(self) -> dict[str, Any]:
        end = time.monotonic() + SECONDS
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._reader], [], [], max(0, end - time.monotonic()))
            assert ready, "the browser says nothing"
            part = os.read(self._reader, 1 << 20)
            assert part, "the browser has ended"
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\0")
        return json.loads(line)

    def _note(self, said: dict[str, Any]) -> None:
        if said.get("method") == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(said["params"])[:600])
        if said.get("method") == "Log.entryAdded":
            entry = said["params"]["entry"]
            if "Security" in entry.get("text", "") or entry["source"] == "security":
                self.errors.append(entry["text"])

    def become(self, person: str) -> None:
        """Goes to the window of a person."""
        self.session = self._sessions.get(person, "")
        if not self.session:
            context = self.call("Target.createBrowserContext")["browserContextId"]
            made = self.call("Target.createTarget", url="about:blank", browserContextId=context)
            attached = self.call("Target.attachToTarget", targetId=made["targetId"], flatten=True)
            self.session = self._sessions[person] = attached["sessionId"]
            for domain in ("Page", "Runtime", "Log"):
                self.call(f"{domain}.enable")

    def open(self, address: str, *, width: int = 1280, height: int = 800) -> None:
        """Goes to an address, in a window of this size."""
        if not self.session:
            self.become("")
        self.size(width, height)
        self.call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete'")

    def size(self, width: int, height: int, *, scale: float = 1, mobile: bool = False) -> None:
        """Makes the window this large."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=mobile,
        )

    def dark(self, is_dark: bool) -> None:
        """Prefers dark colors, or light ones."""
        value = "dark" if is_dark else "light"
        features = [{"name": "prefers-color-scheme", "value": value}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def value(self, expression: str) -> Any:
        """Returns the value of an expression on the page."""
        said = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    def wait(self, expression: str, seconds: float = SECONDS) -> Any:
        """Returns the value of an expression once it is true."""
        end = time.monotonic() + seconds
        while not (found := self.value(expression)):
            assert time.monotonic() < end, f"never true: {expression}"
            time.sleep(0.02)
        return found

    def press(self, key: str) -> None:
        """Presses and releases a key."""
        code = KEYS.get(key, ord(key[0].upper()))
        options: dict[str, Any] = {"key": key, "windowsVirtualKeyCode": code}
        text = {"Enter": "\r", "Tab": ""}.get(key, key if len(key) == 1 else "")
        extra = {"text": text} if text else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **options, **extra)
        self.call("Input.dispatchKeyEvent", type="keyUp", **options)

    def type(self, text: str) -> None:
        """Types a text where the cursor is."""
        self.call("Input.insertText", text=text)

    def click(self, selector: str) -> None:
        """Clicks in the middle of an element."""
        box = self.value(
            f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])"
            f"(document.querySelector({selector!r}).getBoundingClientRect())"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent",
                type=kind,
                x=box[0],
                y=box[1],
                button="left",
                clickCount=1,
            )

    def picture(self, path: Path) -> None:
        """Writes what the window shows as PNG."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))


@contextlib.contextmanager
def browsing(folder: Path) -> Iterator[Browser]:
    """Gives a browser that keeps its things in `folder`."""
    found = executable()
    assert found is not None
    (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()

    def pipes() -> None:  # 3 and 4 are where the browser looks for them
        os.dup2(theirs_in, 100)
        os.dup2(theirs_out, 101)
        os.dup2(100, 3)
        os.dup2(101, 4)

    process = subprocess.Popen(
        [
            found,
            "--headless",
            "--remote-debugging-pipe",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-extensions",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            "--hide-scrollbars",
            f"--user-data-dir={folder}",
        ],
        preexec_fn=pipes,
        close_fds=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Browser(ours_in, ours_out)
    finally:
        process.kill()
        process.wait()
        os.close(ours_in)
        os.close(ours_out)
