"""Whether an account can do the work, found out before anything is paid for: keys, storage, images, what runs already."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from azbatchwrap import names
from azbatchwrap.backoff import Backoff
from azbatchwrap.config import Settings
from azbatchwrap.errors import AzBatchWrapError, ConfigurationError, NotFound
from azbatchwrap.storage.account import Account
from azbatchwrap.storage.inventory import list_blobs
from azbatchwrap.storage.wire import BlobWire

from .capacity import UNKNOWN, Demand, capacity_of
from .pools import Pools
from .service import Service

#: A check that waits for a service that is away would tell late what is known at once.
IMPATIENT = Backoff(attempts=2, base=0.5)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. ``ok`` is ``None`` where nothing can be said; ``wrong_use`` tells bad input from a refusal."""

    name: str
    ok: bool | None
    detail: str
    wrong_use: bool = False


def checks(settings: Settings) -> Iterator[Check]:
    """The checks of these settings, one after the other; a failed one does not stop the others."""
    service = Service(settings.batch, backoff=IMPATIENT)
    account = _attempt("batch account", lambda: _batch(service, settings))
    yield account
    yield _attempt("storage account", lambda: _storage(settings))
    if account.ok:
        yield _attempt("image", lambda: _image(service, settings))
        yield _attempt("pools", lambda: _running(service, settings))
        yield from _room(service, settings)


def _room(service: Service, settings: Settings) -> Iterator[Check]:
    """Whether the configured nodes would fit beside what runs, as far as anybody says."""
    pool = settings.pool
    if settings.management is None:
        why = "this machine is the node" if settings.is_local else UNKNOWN
        yield Check("VM size", None, f"{pool.vm_size}: {why}")
        yield Check("quota", None, "none on this machine" if settings.is_local else UNKNOWN)
        return
    try:
        capacity = capacity_of(settings, service)
    except AzBatchWrapError as error:
        # The work can start without it.
        yield Check("quota", None, f"unknown ({error})")
        return
    size = capacity.size(pool.vm_size)
    said = str(size) if size else f"{pool.vm_size} is not offered in the account's location"
    yield Check("VM size", ok=size is not None, detail=said, wrong_use=size is None)
    for share in capacity.shares(Demand("", pool.vm_size, pool.node_count)):
        yield Check(f"quota: {share.what}", ok=share.fits, detail=str(share).partition(": ")[2])


def _attempt(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, ok=True, detail=look())
    except AzBatchWrapError as error:
        return Check(name, ok=False, detail=str(error), wrong_use=isinstance(error, ConfigurationError))


def _batch(service: Service, settings: Settings) -> str:
    # Signed as every other request is, and cheap: at most one pool comes back.
    next(iter(service.list("/pools", select=("id",), page=1)), None)
    how = "account key" if settings.batch.key is not None else "identity (DefaultAzureCredential)"
    return f"{settings.batch.name} at {urlsplit(settings.batch.url).netloc} answers; signed in by {how}"


def _storage(settings: Settings) -> str:
    account = Account(settings.storage)
    wire = BlobWire(account, patience=IMPATIENT)
    container = names.files_container(settings.project)
    try:
        next(iter(list_blobs(wire, container)), None)
        state = f"container {container} is there"
    except NotFound:
        state = f"container {container} will be made"
    finally:
        wire.close()
        account.close()
    longest = account.longest_signature()
    limit = "" if longest is None else f"; without an account key, jobs can last {longest.days} days at most"
    return f"{settings.storage.name} answers; {state}{limit}"


def _image(service: Service, settings: Settings) -> str:
    image, replaced = Pools(service, settings.pool, settings.project).image()
    return f"{image}" + (f" ({replaced})" if replaced else "")


def _running(service: Service, settings: Settings) -> str:
    pools = list(Pools(service, settings.pool, settings.project).list())
    nodes = sum(pool.get("currentDedicatedNodes", 0) + pool.get("currentLowPriorityNodes", 0) for pool in pools)
    return f"{len(pools)} pools of project {settings.project}, with {nodes} nodes"
