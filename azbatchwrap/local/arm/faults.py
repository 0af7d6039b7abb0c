"""Faults on request: what a bad day of the real service looks like, set by flags or the admin route.

A fault is a JSON object: ``kind`` (a key of KINDS), ``path`` (a regular expression searched in the address, case not
heeded), ``methods`` (default: all that change something), ``times`` (how often; default: for ever), ``skip`` (how many
matching requests are spared first), ``seconds`` (for ``slow``), ``status``, ``code``, ``message`` (in place of the
kind's own).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from azbatchwrap.local.arm.errors import ArmError, bad_request

if TYPE_CHECKING:
    from azbatchwrap.local.arm.store import Store

#: The request itself is refused.
REFUSALS: Mapping[str, tuple[int, str, str]] = {
    "forbidden": (403, "AuthorizationFailed", "The client does not have authorization to perform this action."),
    "conflict": (409, "Conflict", "The resource is in a state that does not allow this operation."),
    "throttled": (429, "TooManyRequests", "The request is being throttled."),
    "quota": (400, "QuotaExceeded", "The operation results in exceeding the approved quota of the subscription."),
    "unavailable": (503, "ServerBusy", "The service cannot take the request just now."),
    "error": (500, "InternalServerError", "The service met an error of its own."),
}
#: The request is taken: its long-running operation fails, never ends or takes its time; or its answer is lost.
OPERATIONS = ("fail", "hang", "slow")
KINDS = (*REFUSALS, *OPERATIONS, "lost")
_CHANGING = ("PUT", "POST", "PATCH", "DELETE")
_KEYS = {"kind", "path", "methods", "times", "skip", "seconds", "status", "code", "message"}


@dataclass(frozen=True, slots=True)
class Provisioning:
    """How a long-running operation goes: it takes ``seconds`` (``None``: it never ends) and fails with ``failure``."""

    seconds: float | None = 0.0
    failure: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    kind: str
    path: str
    methods: tuple[str, ...] = _CHANGING
    times: int | None = None
    skip: int = 0
    seconds: float = 5.0
    status: int | None = None
    code: str | None = None
    message: str | None = None

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Fault:
        """Raises ArmError with what is wrong."""
        unknown = set(given) - _KEYS
        if unknown or given.get("kind") not in KINDS:
            raise bad_request(
                f"A fault has a kind ({', '.join(KINDS)}) and the keys {', '.join(sorted(_KEYS))}, not {dict(given)}."
            )
        try:
            re.compile(str(given.get("path", "")))
            methods = given.get("methods", _CHANGING)
            words = methods.split(",") if isinstance(methods, str) else methods
            known = {name: given[name] for name in _KEYS - {"methods", "path"} if given.get(name) is not None}
            return cls(**known, path=str(given.get("path", "")), methods=tuple(str(word).upper() for word in words))
        except (re.error, TypeError) as error:
            raise bad_request(f"The fault {dict(given)} cannot be used: {error}.") from None

    def fits(self, method: str, path: str) -> bool:
        return (method in self.methods or "*" in self.methods) and bool(re.search(self.path, path, re.IGNORECASE))

    def refusal(self) -> ArmError:
        status, code, message = REFUSALS[self.kind]
        headers = {"retry-after": "1"} if self.kind in {"throttled", "unavailable"} else {}
        return ArmError(self.status or status, self.code or code, self.message or message, headers=headers)

    def provisioning(self) -> Provisioning:
        if self.kind == "hang":
            return Provisioning(None)
        if self.kind == "slow":
            return Provisioning(self.seconds)
        code = self.code or "InternalServerError"
        return Provisioning(0.0, (code, self.message or "The operation failed on request."))


class Faults:
    """The faults in force. They are kept with the state: a restart changes nothing."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._number = max((int(key) for key, _ in store.below("fault", "")), default=0)

    def add(self, given: Mapping[str, Any]) -> str:
        """Set one; returns its number. Raises ArmError."""
        Fault.read(given)
        self._number += 1
        self._store.save("fault", f"{self._number:08d}", dict(given))
        return f"{self._number:08d}"

    def replace(self, faults: Iterable[Mapping[str, Any]]) -> None:
        self.clear()
        for given in faults:
            self.add(given)

    def clear(self) -> None:
        for key, _ in self._store.below("fault", ""):
            self._store.drop("fault", key)

    def all(self) -> list[dict[str, Any]]:
        return [{"id": key, **given} for key, given in self._store.below("fault", "")]

    def refusal(self, method: str, path: str) -> ArmError | None:
        """The refusal that this request meets, if it meets one."""
        fault = self._take(method, path, tuple(REFUSALS))
        return fault.refusal() if fault is not None else None

    def loses(self, method: str, path: str) -> bool:
        """Whether the answer of this request is lost."""
        return self._take(method, path, ("lost",)) is not None

    def provisioning(self, method: Literal["PUT", "PATCH", "DELETE"], path: str) -> Provisioning:
        """How the long-running operation of this request goes: without a fault it is over at once."""
        fault = self._take(method, path, OPERATIONS)
        return fault.provisioning() if fault is not None else Provisioning()

    def _take(self, method: str, path: str, kinds: tuple[str, ...]) -> Fault | None:
        for key, given in self._store.below("fault", ""):
            fault = Fault.read(given)
            if fault.kind not in kinds or not fault.fits(method, path):
                continue
            if fault.skip > 0:
                self._store.save("fault", key, given | {"skip": fault.skip - 1})
                continue
            if fault.times == 1:
                self._store.drop("fault", key)
            elif fault.times is not None:
                self._store.save("fault", key, given | {"times": fault.times - 1})
            return fault
        return None
