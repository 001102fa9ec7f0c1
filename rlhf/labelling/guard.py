"""What the page answers to whom: addresses, tokens, other sites and sizes, before anything is read.

The page may be opened by any program on the machine, and any site that its user visits can send
requests to it. So names of the host are checked (a site may point its own name at this machine),
requests that change something come from the page itself (`Origin`, a secret that only the page
knows, a type that forms cannot send), and a token is asked for where others can reach the page.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from typing import NamedTuple

from common.errors import UserError

MAX_BODY, MAX_HEADERS = 4_096, 16_384  # bytes of a request
COOKIE = "lab_label"
PAGE_HEADER = "x-lab-page"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard(NamedTuple):
    """What requests are judged by.

    Attributes:
        port: Of the page.
        token: What people have to know, "" if the page is for this machine only.
        page: The secret of pages of this server.
    """

    port: int
    token: str
    page: str

    @property
    def session(self) -> str:
        """What the cookie of somebody who knew the token holds."""
        return hmac.new(self.token.encode(), b"session", hashlib.sha256).hexdigest()


class Refusal(NamedTuple):
    """Why a request is refused: a status of HTTP, and one line."""

    status: int
    message: str


def make_guard(host: str, port: int, token: str | None) -> Guard:
    """Returns the guard of a server.

    Raises:
        UserError: If others could reach it without a token.
    """
    if host.strip("[]") not in ("127.0.0.1", "localhost", "::1") and not token:
        raise UserError(
            f"--host={host}: others reach the page there; give --token=WORD, which people then need"
        )
    return Guard(port, token or "", secrets.token_urlsafe(16))


def is_known(guard: Guard, headers: Mapping[str, str]) -> bool:
    """Returns whether a request comes from somebody who knows the token, if there is one."""
    if not guard.token:
        return True
    cookie: SimpleCookie = SimpleCookie()
    try:
        cookie.load(headers.get("cookie", ""))
    except CookieError:
        return False
    given = cookie[COOKIE].value if COOKIE in cookie else ""
    return hmac.compare_digest(given.encode(), guard.session.encode())


def is_token(guard: Guard, given: str) -> bool:
    """Returns whether this is the token."""
    return hmac.compare_digest(given.encode(), guard.token.encode())


def refusal_of_host(guard: Guard, headers: Mapping[str, str]) -> Refusal | None:
    """Returns why the name of the host or the size of the headers is refused, None if neither is.

    With a token any name will do: a site that points its own name here has no cookie of that name.
    """
    if sum(len(name) + len(value) for name, value in headers.items()) > MAX_HEADERS:
        return Refusal(431, f"expected at most {MAX_HEADERS} bytes of headers")
    host = headers.get("host", "")
    if guard.token and host:
        return None
    name, _, port = host.rpartition(":")
    if name not in LOOPBACK or port != str(guard.port):
        return Refusal(421, "this page answers at its own address only")
    return None


def refusal_of_change(guard: Guard, headers: Mapping[str, str]) -> Refusal | None:
    """Returns why a request that changes something is refused, None if it is not."""
    origin, host = headers.get("origin", ""), headers.get("host", "")
    if origin not in (f"http://{host}", f"https://{host}"):
        return Refusal(403, "this request comes from another site")
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return Refusal(403, "this request comes from another site")
    if not hmac.compare_digest(headers.get(PAGE_HEADER, "").encode(), guard.page.encode()):
        return Refusal(403, "this page is older than its server: load it again")
    if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        return Refusal(415, "expected application/json")
    length = headers.get("content-length")
    if length is not None and (not length.isdecimal() or int(length) > MAX_BODY):
        return Refusal(413, f"expected at most {MAX_BODY} bytes")
    return None
