"""What the page's tests share: a way in, and an account in which something happens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from azure.batch import BatchClient, models

from azbatchwrap.local.web.links import make_link
from tests.fixtures_service import BatchService
from tests.local.batch.conftest import add_job, add_pool, add_task, completed
from tests.waiting import wait_until


class Visitor:
    """A program that speaks to the page as its scripts do."""

    def __init__(self, service: BatchService) -> None:
        self.url = service.url
        self.service = service
        self.session = requests.Session()
        self.session.trust_env = False

    @property
    def own(self) -> dict[str, str]:
        """The headers that only the page's own scripts can send."""
        return {"origin": self.url, "x-page": "azbatchwrap"}

    def enter(self, link: str | None = None) -> requests.Response:
        secret = (link or make_link(self.url, self.service.key)).partition("#enter=")[2]
        return self.session.post(f"{self.url}/ui/api/enter", data=secret, headers=self.own, timeout=30)

    def ask(self, path: str, known: requests.Response | None = None, **query: Any) -> requests.Response:
        """``known`` is an earlier answer that need not be told again."""
        headers = {"if-none-match": known.headers["etag"]} if known is not None else {}
        return self.session.get(f"{self.url}/ui/api/{path}", params=query, headers=headers, timeout=30)

    def read(self, path: str, **query: Any) -> Any:
        answer = self.ask(path, **query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def act(self, path: str, **headers: str) -> requests.Response:
        return self.session.post(f"{self.url}/ui/api/{path}", headers=self.own | headers, timeout=30)


@pytest.fixture(scope="module")
def page_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BatchService]:
    """A service of the page's tests alone."""
    service = BatchService(tmp_path_factory.mktemp("page"))
    service.start()
    yield service
    service.stop()


@pytest.fixture(scope="module")
def client(page_service: BatchService) -> Iterator[BatchClient]:
    with page_service.client() as client:
        yield client


@pytest.fixture(scope="module")
def account(client: BatchClient) -> str:
    """A pool and a job: one task succeeded, one failed, one that goes on. Returns the job's id."""
    add_pool(client, 2, 2, id="workshop")
    add_job(client, "workshop", id="letters", display_name="Letters & <b>numbers</b>")
    add_task(client, "letters", "echo fine", id="good")
    add_task(client, "letters", "echo before; echo the lamp is out >&2; exit 7", id="bad")
    add_task(client, "letters", "i=0; while true; do i=$((i+1)); echo line $i; sleep 0.2; done", id="endless")
    completed(client, "letters", "good")
    completed(client, "letters", "bad")
    wait_until(lambda: client.get_task("letters", "endless").state == models.BatchTaskState.RUNNING)
    return "letters"


@pytest.fixture
def visitor(page_service: BatchService) -> Visitor:
    """Somebody who is in."""
    visitor = Visitor(page_service)
    assert visitor.enter().status_code == 204
    return visitor
