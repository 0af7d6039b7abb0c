"""A service whose answers the test writes, and which does not really sleep between attempts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import responses

from azbatchwrap.backoff import Backoff
from azbatchwrap.batch.service import Service
from azbatchwrap.config import BatchAccount, Secret

URL = "https://account.region.batch.azure.com"
KEY = "c2VjcmV0LWtleS1mb3ItdGVzdHM="


@dataclass
class Door:
    """`Service` over recorded answers; ``pauses`` are the seconds it would have slept."""

    pauses: list[float] = field(default_factory=list)
    url: str = URL

    def __post_init__(self) -> None:
        account = BatchAccount("account", URL, Secret(KEY))
        self.service = Service(account, backoff=Backoff(attempts=4, base=0.5), sleep=self.pauses.append)


@pytest.fixture
def door() -> Iterator[Door]:
    made = Door()
    with responses.RequestsMock(assert_all_requests_are_fired=False) as answers:
        made.answers = answers
        yield made
    made.service.close()


def error_body(code: str, message: str = "The reason.", **values: str) -> dict[str, object]:
    """An error as the service writes it."""
    text = f"{message}\nRequestId:6f4b\nTime:2026-01-01T00:00:00.0Z"
    listed = [{"key": key, "value": value} for key, value in values.items()]
    return {"code": code, "message": {"lang": "en-US", "value": text}, **({"values": listed} if listed else {})}
