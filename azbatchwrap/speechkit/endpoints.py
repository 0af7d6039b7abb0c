"""Speech endpoints: how the configuration file describes them, and whether one is ready."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
from collections.abc import Mapping
from enum import Enum
from typing import Any

from azbatchwrap.batchkit import Endpoint, EndpointSpec, EndpointStatusChecker
from azbatchwrap.endpoints.spec import DEFAULT_CONCURRENCY, MAX_CONCURRENCY, Parse, whole_number
from azbatchwrap.errors import ConfigurationError

log = logging.getLogger(__name__)

#: Azure's own service by its host: as the public kit knows it, and where the REST APIs are.
CLOUD_HOSTS = (".stt.speech.microsoft.com", ".cognitiveservices.azure.com", ".api.cognitive.microsoft.com")
#: Real-time factor: sound is sent at most so many times faster than it was spoken. The public kit's default and bounds.
DEFAULT_RTF, LOWEST_RTF, HIGHEST_RTF = 3.0, 0.1, 7.0
DEFAULT_LANGUAGE = "en-US"
#: An endpoint of this "language" takes the batches that name several languages.
LID = "lid"
#: The public kit's keys, then ours.
KEYS = frozenset(
    {
        "host", "port", "isSecure", "isCloudService", "concurrency", "startConcurrency", "rtf", "subscription",
        "language", "api",
    }
)  # fmt: skip


class Api(Enum):
    """What is spoken with the endpoint."""

    SDK = "sdk"  # the Speech SDK over a WebSocket: every container, every feature
    FAST = "fast"  # the fast transcription REST API: a whole file at once
    SHORT = "short"  # the REST API for short audio: up to 60 s


def parser(environment: Mapping[str, str], *, runs_here: bool = True) -> Parse:
    """Reads one entry of the file. A ``subscription`` that begins with ``$`` names a variable of ``environment``.

    ``runs_here``: the endpoint is used by this process, which needs the Speech SDK for ``api: sdk``.
    """

    def parse(name: str, entry: Any) -> EndpointSpec:
        if entry is None:
            entry = {}  # "MyContainer:" with nothing below it is all defaults, as ``{}``
        if not isinstance(entry, Mapping):
            raise ConfigurationError(f"endpoint {name!r}: expected a mapping of settings, found {entry!r}")
        unknown = sorted(str(key) for key in entry if key not in KEYS)
        if unknown:
            raise ConfigurationError(
                f"endpoint {name!r}: unknown {', '.join(unknown)}; known: {', '.join(sorted(KEYS))}"
            )
        spec = _spec(name, entry, environment)
        if runs_here and spec.options["api"] == Api.SDK.value and not _has_sdk():
            raise ConfigurationError(
                f"endpoint {name!r}: api: sdk needs the Speech SDK, which is not installed: "
                f"pip install 'azbatchwrap[speech]', or api: fast"
            )
        return spec

    return parse


def _has_sdk() -> bool:
    try:
        return importlib.util.find_spec("azure.cognitiveservices.speech") is not None
    except ModuleNotFoundError:
        return False


def _spec(name: str, entry: Mapping[str, Any], environment: Mapping[str, str]) -> EndpointSpec:
    host = entry.get("host", "localhost")
    if not isinstance(host, str) or not host or any(mark in host for mark in "/ @?#"):
        raise ConfigurationError(f"endpoint {name!r}: host is a name or an address, not {host!r}")
    cloud = _yes_or_no(name, entry, "isCloudService", default=host.endswith(CLOUD_HOSTS))
    secure = _yes_or_no(name, entry, "isSecure", default=cloud)
    port = whole_number(name, "port", entry.get("port", 443 if secure else 5000), 1, 65_535)
    concurrency = whole_number(name, "concurrency", entry.get("concurrency", DEFAULT_CONCURRENCY), 1, MAX_CONCURRENCY)
    whole_number(name, "startConcurrency", entry.get("startConcurrency", concurrency), 1, MAX_CONCURRENCY)
    shown = f"[{host}]" if ":" in host and not host.startswith("[") else host
    options = {
        "rtf": _rtf(name, entry.get("rtf", DEFAULT_RTF)),
        "language": _language(name, entry.get("language", DEFAULT_LANGUAGE)),
        "api": _api(name, entry.get("api", Api.SDK.value)).value,
        "cloud": cloud,
        "subscription": _subscription(name, entry.get("subscription"), environment),
    }
    return EndpointSpec(name, f"http{'s' if secure else ''}://{shown}:{port}", concurrency, options)


def _yes_or_no(name: str, entry: Mapping[str, Any], key: str, *, default: bool) -> bool:
    value = entry.get(key, default)
    if not isinstance(value, bool):
        raise ConfigurationError(f"endpoint {name!r}: {key} is true or false, not {value!r}")
    return value


def _rtf(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not LOWEST_RTF <= value <= HIGHEST_RTF:
        raise ConfigurationError(
            f"endpoint {name!r}: rtf is a number from {LOWEST_RTF} to {HIGHEST_RTF:g}, not {value!r}"
        )
    return float(value)


def _language(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value or any(not (mark.isalnum() or mark == "-") for mark in value):
        raise ConfigurationError(f"endpoint {name!r}: language is a name such as en-US, or {LID}, not {value!r}")
    return value


def _api(name: str, value: Any) -> Api:
    try:
        return Api(value)
    except ValueError:
        known = ", ".join(api.value for api in Api)
        raise ConfigurationError(f"endpoint {name!r}: api is one of {known}, not {value!r}") from None


def _subscription(name: str, value: Any, environment: Mapping[str, str]) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"endpoint {name!r}: subscription is a key, or $NAME of an environment variable")
    if not value.startswith("$"):
        return value
    if value[1:] not in environment:
        raise ConfigurationError(f"endpoint {name!r}: the environment has no variable {value[1:]}")
    return environment[value[1:]]


def api_of(endpoint: Endpoint) -> Api:
    return Api(endpoint.options["api"])


def socket_url(endpoint: Endpoint) -> str:
    """The URL as the Speech SDK wants it, and as the run summary shows endpoints."""
    return "ws" + endpoint.url.removeprefix("http")


class SpeechEndpointStatusChecker(EndpointStatusChecker):
    """A container says in ``/status`` whether it may be used; of Azure's own service only the port can be asked."""

    async def check(self, endpoint: Endpoint) -> bool:
        if endpoint.options["cloud"]:
            return await _takes_connections(endpoint)
        answer = await endpoint.request(method="GET", path="/status")
        said = answer.json()
        state = f"{said.get('apiStatus')} {said.get('apiStatusMessage')}".lower() if isinstance(said, dict) else ""
        ready = "nonmetered" in state or "non-metered" in state or ("valid" in state and "invalid" not in state)
        if not ready:
            log.warning("endpoint %s is not ready; its /status says: %s", endpoint.name, state[:200] or said)
        return ready


async def _takes_connections(endpoint: Endpoint) -> bool:
    _, writer = await asyncio.open_connection(endpoint.spec.host, endpoint.spec.port)
    writer.close()
    return True
