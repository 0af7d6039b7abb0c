"""`Extensible`: the base of what consumers implement."""

from __future__ import annotations

import inspect
from types import FunctionType
from typing import Any

#: What consumers of the public batchkit 0.10 define and nobody would call here, with what takes its place.
OLD_METHODS = {
    "process_impl": "process(self, item, endpoint)",
    "check_endpoint": "async def check(self, endpoint) -> bool",
    "run_summary": "add(self, record), entry(self, record) and overall(self, counts, ...)",
    "priority": "a field, given as priority=<a number>",
}
#: The same name, but it was a static method there.
OLD_STATIC_METHODS = {
    "from_args": "a class method from_args(cls, arguments), where arguments is a mapping",
    "from_json": "a class method from_json(cls, document, config)",
}


class Extensible:
    """Refuses, where it is defined, what was written for the public kit and would be passed over in silence here."""

    __slots__ = ()

    def __init_subclass__(cls, **given: Any) -> None:
        super().__init_subclass__(**given)
        for old, new in OLD_METHODS.items():
            if isinstance(vars(cls).get(old), FunctionType):
                raise _refusal(cls, old, new)
        for old, new in OLD_STATIC_METHODS.items():
            if isinstance(vars(cls).get(old), staticmethod):
                raise _refusal(cls, old, new)
        listing = vars(cls).get("make_work_items")
        if isinstance(listing, FunctionType) and len(inspect.signature(listing).parameters) > 1:
            raise _refusal(cls, "make_work_items", "make_work_items(self), with the folders in self.config")


def _refusal(kind: type, old: str, new: str) -> TypeError:
    return TypeError(
        f"{kind.__qualname__}.{old} is as the public batchkit calls it. Here: {new} "
        f'(docs/batchkit.md, "Coming from batchkit 0.10")'
    )
