"""What a configuration says about endpoints: `EndpointSpec`, read from YAML or JSON, every fault named."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from azbatchwrap.errors import ConfigurationError

log = logging.getLogger(__name__)

#: Requests in flight on an endpoint, as in the public Speech Batch Kit.
DEFAULT_CONCURRENCY = 8
MAX_CONCURRENCY = 1000
SCHEMES = ("http", "https", "ws", "wss", "exec", "call")
#: Keys with a meaning of their own. Any other key is kept in ``options`` for the processor.
PLACE_KEYS = {"url", "host", "port", "isSecure", "concurrency"}


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """One endpoint as configured. Two equal specs are the same endpoint: a hot-swap leaves it alone.

    ``url``: ``http(s)://…``, ``ws(s)://…``, ``exec:COMMAND LINE`` (a process per slot that answers lines with
    lines) or ``call:MODULE:FUNCTION`` (a function in this process). ``concurrency``: requests in flight.
    ``options``: everything else that the configuration says, for processors and status checkers.
    """

    name: str
    url: str
    concurrency: int = DEFAULT_CONCURRENCY
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def shown_url(self) -> str:
        """The URL without a user and password."""
        scheme, slashes, rest = self.url.partition("://")
        if not slashes:
            return self.url
        place, slash, path = rest.partition("/")
        return f"{scheme}://{place.rpartition('@')[2]}{slash}{path}"

    @property
    def port(self) -> int:
        parts = urlsplit(self.url)
        return parts.port or (443 if parts.scheme in {"https", "wss"} else 80)


def in_process(
    name: str, handler: Callable[[bytes], Any], concurrency: int = DEFAULT_CONCURRENCY, **options: Any
) -> EndpointSpec:
    """An endpoint that is ``handler(body)`` in this process, a coroutine function or a plain one (run in a thread)."""
    return EndpointSpec(name, "call:", concurrency, {**options, "handler": handler})


def parse_endpoint(name: str, entry: Any) -> EndpointSpec:
    """One entry of a configuration: a URL, or a mapping with ``url`` or with ``host``, ``port`` and ``isSecure``.

    Raises ConfigurationError that names the endpoint and the key.
    """
    if isinstance(entry, str):
        entry = {"url": entry}
    if not isinstance(entry, Mapping):
        raise ConfigurationError(f"endpoint {name!r}: expected a URL or a mapping of settings, found {entry!r}")
    concurrency = whole_number(name, "concurrency", entry.get("concurrency", DEFAULT_CONCURRENCY), 1, MAX_CONCURRENCY)
    options = {str(key): value for key, value in entry.items() if key not in PLACE_KEYS}
    return EndpointSpec(name, _url_of(name, entry), concurrency, options)


def whole_number(name: str, key: str, value: Any, low: int, high: int) -> int:
    """``value`` as a whole number within bounds, else ConfigurationError."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigurationError(f"endpoint {name!r}: {key} is a whole number from {low} to {high}, not {value!r}")
    return value


def _url_of(name: str, entry: Mapping[str, Any]) -> str:
    if "url" in entry:
        return _checked_url(name, entry["url"])
    # As in the public kit, what has a port and no host is on this machine.
    host = entry.get("host", "localhost" if "port" in entry else None)
    if not isinstance(host, str) or not re.fullmatch(r"[A-Za-z0-9_.:\[\]-]+", host):
        raise ConfigurationError(f"endpoint {name!r}: needs a url, or a host (found {host!r})")
    secure = entry.get("isSecure", entry.get("isCloudService", False))
    if not isinstance(secure, bool):
        raise ConfigurationError(f"endpoint {name!r}: isSecure is true or false, not {secure!r}")
    port = whole_number(name, "port", entry.get("port", 443 if secure else 5000), 1, 65_535)
    bracketed = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"{'https' if secure else 'http'}://{bracketed}:{port}"


def _checked_url(name: str, url: Any) -> str:
    scheme = url.partition(":")[0].lower() if isinstance(url, str) else ""
    if scheme not in SCHEMES:
        raise ConfigurationError(f"endpoint {name!r}: url starts with one of {', '.join(SCHEMES)}; found {url!r}")
    assert isinstance(url, str)
    if scheme in {"exec", "call"}:
        if not url.partition(":")[2].strip():
            raise ConfigurationError(f"endpoint {name!r}: {scheme}: needs what to run after it")
        return url
    try:
        parts = urlsplit(url)
        valid = bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ConfigurationError(f"endpoint {name!r}: {url!r} is no URL of a server")
    return url.rstrip("/")


Parse = Callable[[str, Any], EndpointSpec]


def parse_endpoints(document: Any, *, parse: Parse = parse_endpoint, strict: bool = True) -> tuple[EndpointSpec, ...]:
    """All endpoints of a configuration: a mapping of name to entry (also below one key ``endpoints``), or a list.

    Strict: any wrong entry is a ConfigurationError with all faults; else it is left out with an error in the log, as
    long as one entry is right. No entry at all is a ConfigurationError: an emptied file must not stop the work.
    """
    specs, faults = [], []
    for name, entry in _entries(document):
        try:
            specs.append(parse(name, entry))
        except ConfigurationError as error:
            faults.append(str(error))
    if faults and (strict or not specs):
        raise ConfigurationError("; ".join(faults))
    for fault in faults:
        log.error("left out: %s", fault)
    if not specs:
        raise ConfigurationError("the configuration names no endpoint")
    return tuple(specs)


def _entries(document: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(document, Mapping) and set(document) == {"endpoints"}:
        document = document["endpoints"]
    if isinstance(document, Mapping):
        return [(str(name), entry) for name, entry in document.items()]
    if isinstance(document, list):
        named = [(entry.get("name") if isinstance(entry, Mapping) else None) or entry for entry in document]
        pairs = [(str(name) if isinstance(name, str) else f"#{n + 1}", document[n]) for n, name in enumerate(named)]
        return [(name, _without_name(entry)) for name, entry in pairs]
    if document is None:
        return []
    raise ConfigurationError(f"expected a mapping of endpoints, found {type(document).__name__}")


def _without_name(entry: Any) -> Any:
    return {key: value for key, value in entry.items() if key != "name"} if isinstance(entry, Mapping) else entry


def read_endpoints(path: Path, *, parse: Parse = parse_endpoint, strict: bool = True) -> tuple[EndpointSpec, ...]:
    """The endpoints of a YAML or JSON file. Raises ConfigurationError that names the file."""
    try:
        return parse_text(path.read_text(encoding="utf-8"), parse=parse, strict=strict)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ConfigurationError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: {error}") from error


def parse_text(text: str, *, parse: Parse = parse_endpoint, strict: bool = True) -> tuple[EndpointSpec, ...]:
    """The endpoints of the text of a YAML file; JSON is YAML too. Raises ConfigurationError."""
    import yaml

    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"is neither YAML nor JSON: {error}") from error
    return parse_endpoints(document, parse=parse, strict=strict)
