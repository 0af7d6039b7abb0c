"""Reads the items of a batch in a thread of its own, and hands them over as they come."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

from .types import BatchRequest, WorkItemRequest

#: Items that wait to be handed over: a fast listing must neither run away nor hold up the event loop.
CHUNK = 500


class Listing:
    """`take` gets the items, on the event loop; it returns whether more are welcome now (else: `more`).

    ``ended`` resolves when all were handed over, with the error that ended the listing, if one did.
    """

    def __init__(self, request: BatchRequest, take: Callable[[list[WorkItemRequest]], bool]) -> None:
        self._request = request
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._items: list[WorkItemRequest] = []
        self._room = threading.Event()
        self._room.set()
        self._stopped = False
        self.ended: asyncio.Future[Exception | None] = self._loop.create_future()
        # A daemon: a listing that hangs on a dead network folder must not keep the program alive.
        threading.Thread(target=self._run, name="listing of work items", daemon=True).start()

    def more(self) -> None:
        """There is room again."""
        self._room.set()

    def stop(self) -> None:
        self._stopped = True
        self._room.set()

    def _run(self) -> None:
        fault: Exception | None = None
        try:
            for item in self._request.make_work_items():
                self._room.wait()
                if self._stopped:
                    break
                self._add(item)
        except Exception as error:  # noqa: BLE001 - the consumer's code may raise anything
            fault = error
        self._call(self._end, fault)

    def _add(self, item: WorkItemRequest) -> None:
        with self._lock:
            self._items.append(item)
            first = len(self._items) == 1
            if len(self._items) >= CHUNK:
                self._room.clear()
        if first:
            self._call(self._hand_over)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(function, *arguments)

    def _hand_over(self) -> None:
        with self._lock:
            items, self._items = self._items, []
        if not items or self._stopped:
            return
        if self._take(items):
            self._room.set()
        else:
            self._room.clear()

    def _end(self, fault: Exception | None) -> None:
        self._hand_over()
        if not self.ended.done():
            self.ended.set_result(fault)
