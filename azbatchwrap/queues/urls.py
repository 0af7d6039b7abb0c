"""From a URL to a queue; what a kind of queue needs is imported when one is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

from azbatchwrap.config import Secret, Settings
from azbatchwrap.errors import ConfigurationError
from azbatchwrap.queues.interface import Parse, Policy, Queue

FORMS = "sqlite:///PATH, redis://HOST:PORT/DB, azurequeue://NAME, pubsub://PROJECT/SUBSCRIPTION"


@dataclass(frozen=True, slots=True)
class Context:
    """What a URL does not say: rules, how to read messages from outside, passwords, the storage account."""

    parse: Parse
    policy: Policy
    redis_password: Secret | None = None
    settings: Callable[[], Settings] | None = None


def queue_from_url(
    url: str,
    parse: Parse,
    *,
    policy: Policy | None = None,
    redis_password: Secret | None = None,
    settings: Callable[[], Settings] | None = None,
) -> Queue:
    """The queue at ``url``, not opened yet.

    ``parse`` reads messages that others put there. ``settings`` is called for queues in Azure only.
    Raises ConfigurationError for a URL of no known form.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ConfigurationError(f"{url!r} is not a queue URL ({error}); known forms: {FORMS}") from error
    make = _MAKERS.get(parts.scheme)
    if make is None:
        raise ConfigurationError(f"{url!r} is not a queue URL; known forms: {FORMS}")
    return make(url, Context(parse, policy or Policy(), redis_password, settings))


def _sqlite(url: str, context: Context) -> Queue:
    from azbatchwrap.queues.sqlite import SqliteQueue

    path = url.removeprefix("sqlite://").removeprefix("/")
    if not path:
        raise ConfigurationError(f"{url!r} names no file; write sqlite:///PATH (sqlite:////PATH from the root)")
    return SqliteQueue(Path(path).expanduser().absolute(), context.policy)


def _redis(url: str, context: Context) -> Queue:
    from azbatchwrap.queues.redis import RedisQueue

    server, options = _options(url, {"queue", "retry"})
    return RedisQueue(
        server,
        options.get("queue", "azbatchwrap"),
        context.policy,
        password=_revealed(context.redis_password),
        delayed_key=options.get("retry"),
    )


def _azure(url: str, context: Context) -> Queue:
    from azbatchwrap.queues.azure import AzureQueue

    if context.settings is None:
        raise ConfigurationError(f"{url} needs a storage account")
    name = urlsplit(url).netloc
    return AzureQueue(name, context.settings().storage, context.parse, context.policy)


def _pubsub(url: str, context: Context) -> Queue:
    from azbatchwrap.queues.pubsub import PubSubQueue

    _, options = _options(url, {"results", "journal"})
    parts = urlsplit(url)
    return PubSubQueue(
        parts.netloc,
        parts.path.strip("/"),
        results_topic=options.get("results"),
        journal=Path(options.get("journal", f"pubsub-{parts.path.strip('/')}.sqlite")),
        parse=context.parse,
        policy=context.policy,
    )


def _options(url: str, known: set[str]) -> tuple[str, dict[str, str]]:
    """``url`` without our own options, and these; what else is in the query stays for the client library."""
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    rest = urlencode([(name, value) for name, value in pairs if name not in known])
    # Not `geturl`: it takes the slashes out of unix:///PATH.
    server = f"{parts.scheme}://{parts.netloc}{parts.path}" + (f"?{rest}" if rest else "")
    return server, {name: value for name, value in pairs if name in known}


def _revealed(secret: Secret | None) -> str | None:
    return None if secret is None else secret.reveal()


_MAKERS: dict[str, Callable[[str, Context], Queue]] = {
    "sqlite": _sqlite,
    "redis": _redis,
    "rediss": _redis,
    "unix": _redis,
    "azurequeue": _azure,
    "pubsub": _pubsub,
}
