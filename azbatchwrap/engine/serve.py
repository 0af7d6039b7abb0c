"""A warm engine: stays in its slot, takes calls from a queue, and sends each result to the caller's mailbox.

A call is leased while it runs and deleted only after its result has been sent: should this process or its node die,
the call shows up again and another engine takes it. Who waits for results tells second ones apart by the call's id.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time

from . import function, record
from .storage_queue import Message, Queue, QueueError, close_connections, put_blob

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .facts import Facts
    from .redis_stream import Stream

#: A result longer than this (bytes of JSON) travels as a blob: a message holds 48 KiB before its encoding.
LONGEST_REPLY = 40 * 1024
#: A call that has taken down its engine this often is not tried again.
MOST_TRIES = 3
#: Seconds that the queue may be away before the engine gives up.
OUTAGE_PATIENCE = 300.0


def serve(facts: Facts) -> dict[str, Any]:
    """Take calls until none has come for the idle time. Returns what the engine did."""
    order = facts.serve or {}
    queue = _queue(facts, order)
    idle, lease = float(order["idle"]), int(order["lease"])
    calls, last, away_since = 0, time.monotonic(), None
    while True:
        began = time.monotonic()
        try:
            message = queue.get(lease)
            away_since = None
        except QueueError as error:
            away_since = away_since or time.monotonic()
            if time.monotonic() - away_since > OUTAGE_PATIENCE:
                raise
            record.say(f"the queue of calls does not answer: {error}")
            time.sleep(1.0)
            continue
        now = time.monotonic()
        if message is None:
            if now - last > idle:
                return {"calls": calls}
            queue.rest(now - last, now - began)
            continue
        _Call(facts, queue, message, lease).run()
        calls, last = calls + 1, time.monotonic()


def _queue(facts: Facts, order: dict[str, Any]) -> Queue | Stream:
    """Where the calls come from: the setting is a queue's address, or that of the note with the way to a stream."""
    address = os.environ["AZBATCHWRAP_CALLS_URL"]
    if not order.get("redis"):
        return Queue(address)
    from .redis_stream import Stream
    from .values import fetch

    return Stream(json.loads(fetch(address, "where the calls are")), f"{facts.node_id}/{facts.task_id}")


class _Call:
    """One call: run under a lease that is renewed while it takes."""

    def __init__(self, facts: Facts, queue: Queue | Stream, message: Message, lease: int) -> None:
        self._facts = facts
        self._queue = queue
        self._message = message
        self._lease = lease
        self._over = threading.Event()

    def run(self) -> None:
        try:
            call = json.loads(self._message.data)
        except ValueError as error:
            record.say(f"a message that is no call is dropped: {error}")
            self._queue.delete(self._message)
            return
        keeper = threading.Thread(target=self._keep, daemon=True)
        keeper.start()
        try:
            answer = self._answer(call)
        finally:
            self._over.set()
            keeper.join()
        self._send(call, answer)
        try:
            self._queue.delete(self._message)
        except QueueError as error:
            # The lease ran out while we were away: somebody else answers too, and is told apart.
            record.say(f"a call could not be taken off the queue: {error}")

    def _keep(self) -> None:
        """Renew the lease until the call is over."""
        while not self._over.wait(self._lease / 3):
            try:
                self._queue.renew(self._message, self._lease)
            except QueueError as error:
                record.say(f"the lease of a call could not be renewed: {error}")
        close_connections()

    def _answer(self, call: dict[str, Any]) -> str:
        """The members of the answer's JSON object."""
        begun = time.monotonic()
        if self._message.tries > MOST_TRIES:
            text = f"the call took down its engine {self._message.tries - 1} times and is not tried again"
            return f'"state":"failed","error":{json.dumps({"type": "EngineDied", "message": text})}'
        try:
            value = self._value(call)
        except BaseException as error:  # noqa: BLE001 - whatever a function raises is its result
            kind, message, traceback = record.describe(error)
            sys.stderr.write(traceback)
            fields = json.dumps({"type": kind, "message": message, "traceback": traceback})[:-1]
            outcome = f'"state":"failed","error":{fields}{function.origin(error)}}}'
        else:
            outcome = '"state":"succeeded"' + record.encode(value)[0]
        os.chdir(self._facts.working_folder)
        sys.stdout.flush()
        return f'{outcome},"seconds":{time.monotonic() - begun:.6f}'

    def _value(self, call: dict[str, Any]) -> Any:
        from .values import fetch

        facts = self._facts
        facts.function = call["function"]
        facts.args = call["args"] if "args" in call else json.loads(fetch(call["args_url"], "the arguments"))
        return function.call(facts)

    def _send(self, call: dict[str, Any], answer: str) -> None:
        head = f'{{"id":{json.dumps(call["id"])},"node":{json.dumps(self._facts.node_id)},'
        text = f"{head}{answer}}}"
        data = text.encode("utf-8", "backslashreplace")
        try:
            if len(data) > LONGEST_REPLY:
                put_blob(call["result_url"], data)
                data = f'{head}"blob":true}}'.encode()
            self._queue.answer(call, data)
        except QueueError as error:
            # The caller has gone and taken its mailbox along; or the queue is away, and the call will come again.
            record.say(f"the result of a call could not be sent: {error}")
