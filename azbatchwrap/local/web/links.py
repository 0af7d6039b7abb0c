"""Who may see the page: links that open it once, and the cookie that such a link is exchanged for.

Both are signed with keys derived from the account key, so whoever can make a link could use the API as well. A link's
secret is in its fragment, which browsers never send: no log, proxy or ``Referer`` gets to see it.
"""

from __future__ import annotations

import base64
import hmac
import secrets
import time

#: A link that was printed works for so many seconds.
LINK_SECONDS = 600
#: A browser that came in stays in for a working day.
SESSION_SECONDS = 12 * 3600
_LINK, _SESSION = b"azbatchwrap page link", b"azbatchwrap page session"


def make_link(url: str, key: str) -> str:
    """A fresh link to the page of the service at ``url``; ``key`` is the account's, base64."""
    return f"{url.rstrip('/')}/ui/#enter={_seal(_derive(key, _LINK), _now_ms())}"


class Gate:
    """Knows the links that were used since the service started; older ones do not open it any more."""

    def __init__(self, key: str, port: int) -> None:
        self.use(key)
        self._opened = _now_ms()
        self._used: dict[str, int] = {}
        #: Sessions that were ended by their browser, and when they began.
        self._left: dict[str, int] = {}
        #: Browsers share cookies between the ports of a host: the name keeps instances apart.
        self.cookie_name = f"azbatchwrap-{port}"

    def use(self, key: str) -> None:
        """The account's key; a new one ends every stay."""
        self._link_key, self._session_key = _derive(key, _LINK), _derive(key, _SESSION)

    def exchange(self, token: str) -> str | None:
        """The ``Set-Cookie`` value for a link's secret; None unless it is right, young and unused."""
        now = _now_ms()
        issued = _unseal(self._link_key, token)
        if issued is None or token in self._used or not self._is_young(issued, now):
            return None
        self._used = {used: made for used, made in self._used.items() if self._is_young(made, now)}
        self._used[token] = issued
        value = _seal(self._session_key, now)
        return f"{self.cookie_name}={value}; Path=/ui; Max-Age={SESSION_SECONDS}; HttpOnly; SameSite=Strict"

    def _is_young(self, issued: int, now: int) -> bool:
        return max(self._opened, now - LINK_SECONDS * 1000) <= issued <= now

    def admits(self, cookies: str) -> bool:
        """Whether a ``Cookie`` header holds a session of ours."""
        return self._session(cookies) is not None

    def leave(self, cookies: str) -> str:
        """End the session of a ``Cookie`` header, copies of it too; the ``Set-Cookie`` value that says so."""
        session = self._session(cookies)
        if session is not None:
            self._left = {value: began for value, began in self._left.items() if _is_open(began)}
            self._left[session[0]] = session[1]
        return f"{self.cookie_name}=; Path=/ui; Max-Age=0; HttpOnly; SameSite=Strict"

    def _session(self, cookies: str) -> tuple[str, int] | None:
        """The sealed session in a ``Cookie`` header and when it began; None unless it is ours and open."""
        for part in cookies.split(";"):
            name, _, value = part.strip().partition("=")
            if name == self.cookie_name and value not in self._left:
                began = _unseal(self._session_key, value)
                return (value, began) if began is not None and _is_open(began) else None
        return None


def _is_open(began: int) -> bool:
    return _now_ms() - began < SESSION_SECONDS * 1000


def _derive(key: str, purpose: bytes) -> bytes:
    return hmac.digest(base64.b64decode(key), purpose, "sha256")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _seal(key: bytes, moment: int) -> str:
    text = f"{moment}.{secrets.token_urlsafe(16)}"
    return f"{text}.{_signature(key, text)}"


def _unseal(key: bytes, sealed: str) -> int | None:
    """The moment in a sealed text, in milliseconds; None when it is not ours."""
    text, _, signature = sealed.rpartition(".")
    if not text.isascii() or not hmac.compare_digest(_signature(key, text).encode(), signature.encode()):
        return None
    return int(text.partition(".")[0])


def _signature(key: bytes, text: str) -> str:
    return base64.urlsafe_b64encode(hmac.digest(key, text.encode(), "sha256")).decode().rstrip("=")
