"""How calls get to warm engines and answers come back: a queue for each lane of engines, a mailbox for each client.

`StorageMail` does it through queues of the storage account; `azbatchwrap.batch.sessions.redis_mail` through Redis.
"""

from __future__ import annotations

import base64
import secrets
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from azbatchwrap.batch.jobs import JobFacts
from azbatchwrap.storage import AzureBatchStorage
from azbatchwrap.storage.queue import Queues

#: Seconds that a message of the mailbox is ours once it is taken.
MAILBOX_LEASE = 60
#: Seconds between two looks into an empty mailbox, at least.
MAILBOX_PAUSE = 0.005


@dataclass(frozen=True, slots=True)
class Letter:
    """An answer from the mailbox; ``receipt`` is what its kind of mail needs to remove it."""

    data: bytes
    receipt: Any


class Mail(ABC):
    """One client's way to engines and back. Every method raises AzBatchWrapError; threads may share it."""

    #: What the engines' orders say of it.
    orders: dict[str, bool]

    def __init__(self) -> None:
        #: Tells this client, its mailbox and its calls from those of others.
        self.client = secrets.token_hex(8)

    @abstractmethod
    def open(self, lane: str, expiry: datetime) -> None:
        """Make the lane's queue and this client's mailbox, which may be there already; nobody needs them after ``expiry``."""

    @abstractmethod
    def engines_address(self, lane: str, facts: JobFacts) -> str:
        """What the lane's engines, tasks of a job, are told of where their calls are."""

    @abstractmethod
    def reply(self, lane: str) -> str:
        """Where this lane's engines put answers for this client."""

    @abstractmethod
    def put(self, lane: str, data: bytes) -> None:
        """Send a call."""

    @abstractmethod
    def get(self) -> list[Letter]:
        """Answers that have come; none after a pause without any."""

    @abstractmethod
    def remove(self, letter: Letter) -> None:
        """Take an answer out of the mailbox."""

    def mend(self) -> bool:
        """Make again what the server may have lost; whether calls and answers may be among it."""
        return False

    @abstractmethod
    def close(self, *, leave_lanes: bool) -> None:
        """Remove the mailbox, and the lanes unless others use them. Nothing else can be called after it."""


class StorageMail(Mail):
    """Through queues of the storage account; engines get a signature for their lane's and the client's."""

    def __init__(self, storage: AzureBatchStorage) -> None:
        super().__init__()
        self.orders = {}
        self._queues = Queues(storage.account, storage.account.queue_url)
        self._mailbox = f"azbw-mail-{self.client}"
        self._reply = ""
        self._lanes: set[str] = set()

    def open(self, lane: str, expiry: datetime) -> None:
        self._queues.create(_queue(lane))
        self._lanes.add(lane)
        if not self._reply:
            self._queues.create(self._mailbox)
            self._reply = self._queues.signature(self._mailbox, "a", expiry)

    def engines_address(self, lane: str, facts: JobFacts) -> str:
        return self._queues.signature(_queue(lane), "pu", facts.sas_expiry)

    def reply(self, lane: str) -> str:
        return self._reply

    def put(self, lane: str, data: bytes) -> None:
        self._queues.put(_queue(lane), base64.b64encode(data).decode())

    def get(self) -> list[Letter]:
        began = time.monotonic()
        messages = self._queues.get(self._mailbox, MAILBOX_LEASE)
        if not messages:
            # A busy service answers sooner when it is asked less.
            time.sleep(max(MAILBOX_PAUSE, time.monotonic() - began))
        return [Letter(base64.b64decode(message.text), message) for message in messages]

    def remove(self, letter: Letter) -> None:
        self._queues.remove(self._mailbox, letter.receipt)

    def close(self, *, leave_lanes: bool) -> None:
        try:
            if self._reply:
                self._queues.delete(self._mailbox)
            for lane in () if leave_lanes else self._lanes:
                self._queues.delete(_queue(lane))
        finally:
            self._queues.close()


def _queue(lane: str) -> str:
    return f"azbw-calls-{lane}"


def mail_of(storage: AzureBatchStorage) -> Mail:
    """Through Redis where a server is configured, else through storage queues. Raises ConfigurationError."""
    if storage.settings.redis is None:
        return StorageMail(storage)
    from .redis_mail import RedisMail

    return RedisMail(storage.settings.redis, storage)
