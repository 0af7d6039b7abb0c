"""Hot-swap: a configuration file that is followed while its endpoints are in use."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from azbatchwrap.errors import ConfigurationError

from .pool import EndpointPool
from .spec import EndpointSpec, Parse, parse_endpoint, parse_text, read_endpoints

log = logging.getLogger(__name__)

#: Milliseconds between looks at a file that sends no notifications: on a network folder, or behind a symbolic link.
LOOK_INTERVAL = 1000
#: A file that was written in place is read when it has not changed for this long (seconds): half a YAML is valid YAML.
SETTLE = 0.05
#: Milliseconds without further notifications after which a group of them is told.
QUIET = 20
GROUP = 100


class EndpointFile:
    """A file of endpoints. Written in place, replaced by rename or behind a swapped symbolic link, it takes effect at
    once; empty, broken or gone, it leaves the last good endpoints in use, and the log says so."""

    def __init__(self, path: Path, *, parse: Parse = parse_endpoint, strict: bool = False) -> None:
        self.path = path
        self._parse = parse
        self._strict = strict
        self._seen: bytes | None = None
        self.fault: str | None = None

    def load(self) -> tuple[EndpointSpec, ...]:
        """The endpoints to begin with. Raises ConfigurationError."""
        specs = read_endpoints(self.path, parse=self._parse, strict=self._strict)
        self._seen = self.path.read_bytes()
        return specs

    def apply(self, pool: EndpointPool) -> bool:
        """Read the file and put it in force. Returns whether it could be."""
        try:
            content = self.path.read_bytes()
        except OSError as error:
            return self._keep_last(f"cannot be read: {error.strerror}")
        self._seen = content
        try:
            specs = parse_text(content.decode("utf-8"), parse=self._parse, strict=self._strict)
            pool.apply(specs)
        except (ConfigurationError, UnicodeDecodeError) as error:
            return self._keep_last(str(error))
        self.fault = None
        log.info("%s: %d endpoints in force", self.path, len(specs))
        return True

    def _keep_last(self, fault: str) -> bool:
        if fault != self.fault:
            log.error("%s: %s; the last good endpoints stay in use", self.path, fault)
        self.fault = fault
        return False

    async def follow(self, pool: EndpointPool) -> None:
        """Put every change in force, until cancelled."""
        async for _ in folder_changes(self.path.parent):
            while await self._differs():
                self.apply(pool)

    async def _differs(self) -> bool:
        """Whether the file says something new and has come to rest."""
        content = await asyncio.to_thread(_content, self.path)
        while content is not None and content != self._seen:
            await asyncio.sleep(SETTLE)
            again = await asyncio.to_thread(_content, self.path)
            if again == content:
                return True
            content = again
        return False


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


async def folder_changes(
    folder: Path, *, recursive: bool = False, every: int = LOOK_INTERVAL, notified: bool = True
) -> AsyncIterator[set[Path]]:
    """Yields the paths below ``folder`` that changed, as the system tells; and an empty set ``every`` milliseconds
    without, for folders of which nothing is told. ``notified`` False, or a system that cannot: only the latter."""
    if notified:
        from watchfiles import awatch

        try:
            watch = awatch(
                folder, watch_filter=None, recursive=recursive, step=QUIET, debounce=GROUP, rust_timeout=every,
                yield_on_timeout=True,
            )  # fmt: skip
            async for changes in watch:
                yield {Path(path) for _, path in changes}
        except (OSError, RuntimeError) as error:
            log.warning("%s: no notifications of changes (%s); looking every %g s", folder, error, every / 1000)
    while True:
        await asyncio.sleep(every / 1000)
        yield set()
