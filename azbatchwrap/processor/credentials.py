"""Tokens for endpoints, fetched when a request is sent; they are never stored with messages, logged, or in argv."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path
from typing import Any, Protocol

from azbatchwrap.config import Secret
from azbatchwrap.errors import AccessDenied, ConfigurationError

#: A command that prints a token may ask a server for it (seconds).
COMMAND_TIMEOUT = 60.0


class Credentials(Protocol):
    """Gives the value of the Authorization header."""

    async def header(self, *, fresh: bool) -> Secret | None:
        """``fresh``: the last one was refused, get another. Raises AccessDenied when there is none."""


class NoCredentials:
    """For endpoints that ask for none."""

    async def header(self, *, fresh: bool) -> Secret | None:
        return None


class TokenFile:
    """A token in a file, as Kubernetes mounts and rotates it; read again when it was refused."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: Secret | None = None

    async def header(self, *, fresh: bool) -> Secret | None:
        if fresh or self._held is None:
            try:
                text = self._path.read_text().strip()
            except OSError as error:
                raise ConfigurationError(f"the token file {self._path}: {error.strerror}") from error
            self._held = _bearer(text, str(self._path))
        return self._held


class TokenCommand:
    """A command that prints a token; run again when it was refused."""

    def __init__(self, command: str) -> None:
        self._words = shlex.split(command)
        self._held: Secret | None = None
        self._running = asyncio.Lock()

    async def header(self, *, fresh: bool) -> Secret | None:
        before = self._held
        async with self._running:
            # Many requests may have been refused at once: the first one's new token is good for all.
            if self._held is None or (fresh and self._held is before):
                self._held = await self._run()
            return self._held

    async def _run(self) -> Secret:
        process = await asyncio.create_subprocess_exec(*self._words, stdout=asyncio.subprocess.PIPE)
        try:
            said, _ = await asyncio.wait_for(process.communicate(), COMMAND_TIMEOUT)
        except asyncio.TimeoutError as error:
            process.kill()
            raise AccessDenied(f"{self._words[0]} printed no token within {COMMAND_TIMEOUT:.0f} s") from error
        if process.returncode:
            raise AccessDenied(f"{self._words[0]} ended with exit code {process.returncode} instead of a token")
        return _bearer(said.decode().strip(), self._words[0])


class AzureIdentity:
    """A token of the signed-in identity for ``scope``, such as https://ml.azure.com/.default."""

    def __init__(self, scope: str) -> None:
        self._scope = scope
        self._credential: Any = None

    async def header(self, *, fresh: bool) -> Secret | None:
        from azure.core.exceptions import ClientAuthenticationError
        from azure.identity import DefaultAzureCredential

        if self._credential is None or fresh:
            self._credential = DefaultAzureCredential()
        try:
            # It caches the token, and asks for another some minutes before that one ends.
            token = await asyncio.to_thread(self._credential.get_token, self._scope)
        except ClientAuthenticationError as error:
            raise AccessDenied(f"no token for {self._scope}: {error.message}") from error
        return Secret(f"Bearer {token.token}")


def _bearer(text: str, origin: str) -> Secret:
    if not text or not text.isprintable():
        raise AccessDenied(f"{origin} holds no token")
    return Secret(text if " " in text else f"Bearer {text}")
