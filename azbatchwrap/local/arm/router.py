"""How a request finds its handler: a tree of address words, heedless of case."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from azbatchwrap.local.arm.errors import ArmError
from azbatchwrap.local.arm.exchange import Answer, Request

if TYPE_CHECKING:
    from azbatchwrap.local.arm.service import Arm

Handler: TypeAlias = "Callable[[Arm, Request], Answer | Awaitable[Answer]]"
#: (verbs separated by blanks, address, handler). ``{}`` takes one part, ``{*}`` the whole rest.
Route: TypeAlias = "tuple[str, str, Handler]"


@dataclass(slots=True)
class _Step:
    words: dict[str, _Step] = field(default_factory=dict)
    parameter: _Step | None = None
    rest: dict[str, Handler] = field(default_factory=dict)
    verbs: dict[str, Handler] = field(default_factory=dict)


class Router:
    """Words win over parameters, parameters over the rest; of one address the route added last wins."""

    def __init__(self) -> None:
        self._root = _Step()

    def add(self, routes: Iterable[Route], prefix: str = "") -> None:
        for verbs, address, handler in routes:
            step = self._root
            parts = (prefix + address).strip("/").split("/")
            takes_rest = parts[-1] == "{*}"
            for part in parts[:-1] if takes_rest else parts:
                step = _descend(step, part)
            for verb in verbs.split():
                (step.rest if takes_rest else step.verbs)[verb] = handler

    def find(self, request: Request) -> tuple[Handler, tuple[str, ...]]:
        """The handler and the parameters of the address. Raises ArmError for what nobody serves."""
        parts = [part for part in request.path.split("/") if part]
        found = _walk(self._root, parts, 0, request.method)
        if found is None:
            raise ArmError(404, "InvalidResourceType", f"No operation of this service has the address {request.path}.")
        handlers, names = found
        handler = handlers.get(request.method)
        if handler is None:
            allowed = ", ".join(sorted(handlers))
            raise ArmError(
                405,
                "UnsupportedHttpVerb",
                f"{request.method} is not supported here (only {allowed}).",
                headers={"allow": allowed},
            )
        return handler, names


def _descend(step: _Step, part: str) -> _Step:
    if part != "{}":
        return step.words.setdefault(part.lower(), _Step())
    if step.parameter is None:
        step.parameter = _Step()
    return step.parameter


def _walk(step: _Step, parts: list[str], at: int, verb: str) -> tuple[dict[str, Handler], tuple[str, ...]] | None:
    """The handlers of the best match below ``step``: one that has the verb before one that has not."""
    if at == len(parts):
        return (step.verbs, ()) if step.verbs else None
    second: tuple[dict[str, Handler], tuple[str, ...]] | None = None
    following = step.words.get(parts[at].lower())
    for branch, taken in ((following, ()), (step.parameter, (parts[at],))):
        found = _walk(branch, parts, at + 1, verb) if branch is not None else None
        if found is not None:
            answer = found[0], (*taken, *found[1])
            if verb in answer[0]:
                return answer
            second = second or answer
    if step.rest:
        answer = step.rest, ("/".join(parts[at:]),)
        if verb in step.rest or second is None:
            return answer
    return second
