"""The page in a real browser, as a person uses it: with the mouse where there must be one, else by keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from azure.batch import BatchClient
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from azbatchwrap.local.web.links import make_link
from tests.fixtures_service import BatchService
from tests.local.batch.conftest import add_job, add_task
from tests.waiting import wait_until


class Person:
    """Looks at the page."""

    def __init__(self, browser: Any, service: BatchService) -> None:
        self.browser = browser
        self.service = service

    @property
    def text(self) -> str:
        """What can be read, in one turn: the page changes between two."""
        return str(self.browser.execute_script("return document.body.innerText"))

    @property
    def address(self) -> str:
        return str(self.browser.execute_script("return location.hash"))

    @property
    def heading(self) -> str:
        return str(self.browser.execute_script("return document.querySelector('main h1')?.textContent"))

    @property
    def focused(self) -> str:
        return str(self.browser.execute_script("return document.activeElement.textContent"))

    @property
    def rows(self) -> int:
        """Of the list of tasks."""
        return len(self.browser.find_elements(By.CSS_SELECTOR, "section[data-key=Tasks] tbody tr"))

    def sees(self, *words: str) -> None:
        wait_until(lambda: all(word in self.text for word in words))

    def go(self, place: str) -> None:
        self.browser.execute_script("location.hash = arguments[0]", place)

    def press(self, *keys: str) -> None:
        self.browser.switch_to.active_element.send_keys(*keys)

    def find(self, selector: str) -> Any:
        return wait_until(lambda: self.browser.find_elements(By.CSS_SELECTOR, selector))[0]


@pytest.fixture(scope="module")
def inside(browser: Any, page_service: BatchService) -> Person:
    """Somebody who came in by a link."""
    browser.get(make_link(page_service.url, page_service.key))
    person = Person(browser, page_service)
    person.sees("Overview", "Requests")
    return person


@pytest.fixture
def person(inside: Person) -> Iterator[Person]:
    """Begins at the overview; at the end nothing has gone wrong in the page's scripts."""
    inside.go("#/")
    wait_until(lambda: inside.heading == "Overview")  # nothing of the last test's view is left
    inside.browser.get_log("browser")
    yield inside
    log = inside.browser.get_log("browser")
    assert [entry["message"] for entry in log if entry["level"] == "SEVERE"] == []


def test_a_stranger_is_told_how_to_come_in_and_a_link_works_once(browser: Any, page_service: BatchService) -> None:
    link = make_link(page_service.url, page_service.key)
    person = Person(browser, page_service)
    browser.get(page_service.url + "/ui/")
    person.sees("This page needs a link", "azbatchwrap local open")
    browser.get(link)
    person.sees("Overview", "Nothing runs here yet")
    assert "enter=" not in browser.current_url
    browser.delete_all_cookies()
    browser.get("about:blank")
    browser.get(link)
    person.sees("wrong, too old, or was used before")
    assert browser.execute_script("return document.cookie") == ""


def test_the_account_is_seen_at_a_glance(person: Person, account: str) -> None:
    person.sees("workshop", "letters", "Letters & <b>numbers</b>", "2 of 3 tasks done", "1 failed", "localtest")
    assert person.browser.title == "Overview · azbatchwrap"


def test_a_pool_has_a_map_to_walk_by_arrow_keys(person: Person, account: str) -> None:
    person.go("#/pools/workshop")
    nodes = wait_until(lambda: person.browser.find_elements(By.CSS_SELECTOR, ".map a"))
    assert len(nodes) == 2
    running = person.find(".map a.run")
    assert "running, 1 of 2 slots in use" in running.get_attribute("aria-label")
    person.browser.execute_script("arguments[0].focus()", nodes[0])
    person.press(Keys.ARROW_RIGHT)
    assert person.browser.switch_to.active_element == nodes[1]
    person.press(Keys.ARROW_LEFT, Keys.ENTER)
    person.sees("Tasks so far")
    assert "?node=tvmps_" in person.address


def test_nodes_are_filtered_by_state_and_id(person: Person, account: str) -> None:
    names = "return [...document.querySelectorAll('.map a .name')].map((name) => name.textContent)"
    person.go("#/pools/workshop")
    both = wait_until(lambda: person.browser.execute_script(names))
    assert len(both) == 2
    person.find("form.filters input[name=prefix]").send_keys(both[1])
    wait_until(lambda: person.browser.execute_script(names) == [both[1]])
    person.go("#/pools/workshop?state=running")
    (running,) = wait_until(lambda: len(found := person.browser.execute_script(names)) == 1 and found)
    assert running in both
    person.browser.execute_script("document.querySelector('.map a').click()")
    person.sees("Tasks so far")
    assert "state=running&node=tvmps_" in person.address
    person.go("#/pools/workshop?state=preempted")
    person.sees("No node is like this.")


def test_a_job_shows_reasons_a_timeline_and_its_tasks(person: Person, account: str) -> None:
    person.go("#/jobs/letters")
    person.sees("Why tasks failed", "FailureExitCode", "Timeline", "endless")
    assert person.find(".timeline rect.failed title").get_attribute("textContent").startswith("bad: failed")
    assert len(person.browser.find_elements(By.CSS_SELECTOR, ".timeline rect")) == 3


def test_by_keys_alone_to_why_a_task_failed(person: Person, account: str) -> None:
    person.press("g", "j")
    person.sees("Id begins with")
    person.press("j")
    assert "letters" in person.focused
    person.press(Keys.ENTER)
    person.sees("Exit code", "endless")
    person.press("/")
    person.press("ba")
    wait_until(lambda: "prefix=ba" in person.address)
    wait_until(lambda: person.rows == 1)
    person.press(Keys.TAB)
    person.browser.execute_script("document.activeElement.blur()")
    person.press("k")
    wait_until(lambda: person.focused == "bad")
    person.press(Keys.ENTER)
    person.sees("Failed with exit code 7: FailureExitCode", "the lamp is out")
    person.press("u")
    wait_until(lambda: person.address == "#/jobs/letters")


def test_filters_keep_the_focus_while_the_page_changes(person: Person, account: str) -> None:
    person.go("#/jobs/letters")
    field = person.find("input[name=prefix]")
    field.send_keys("end")
    wait_until(lambda: "prefix=end" in person.address)
    wait_until(lambda: person.rows == 1)
    assert person.browser.switch_to.active_element == field
    assert field.get_attribute("value") == "end"
    person.find("select[name=state]").send_keys("failed")
    person.sees("No task is like this.")


def test_output_grows_before_ones_eyes(person: Person, account: str) -> None:
    person.go("#/jobs/letters/tasks/endless")
    log = person.find("pre.log")
    wait_until(lambda: "line 1\n" in log.text)
    lines = len(log.text.splitlines())
    wait_until(lambda: len(log.text.splitlines()) > lines + 2)
    person.find("nav.files a:nth-child(2)").click()
    person.sees("Nothing yet.")


def test_ending_a_task_asks_first(person: Person, client: BatchClient, account: str) -> None:
    job_id = add_job(client, "workshop", id="doomed")
    add_task(client, job_id, "sleep 600", id="sleeper")
    wait_until(lambda: client.get_task(job_id, "sleeper").state == "running")
    person.go(f"#/jobs/{job_id}/tasks/sleeper")
    person.sees("sleeper", "running")
    person.find("button[data-do=end-task]").send_keys(Keys.ENTER)
    person.sees("Cancel task sleeper?")
    person.press(Keys.ESCAPE)
    assert not person.browser.find_elements(By.CSS_SELECTOR, "dialog[open]")
    assert client.get_task(job_id, "sleeper").state == "running"
    person.find("button[data-do=end-task]").send_keys(Keys.ENTER)
    person.find("#confirm-yes").click()
    person.sees("TaskEnded", "Task Was Ended by User Request")


def test_a_node_in_the_list_leads_to_its_tasks(person: Person, account: str) -> None:
    cells = "[...document.querySelectorAll('section[data-key=Tasks] tbody a[href*=\\'node=\\']')]"
    person.go("#/jobs/letters")
    node = wait_until(
        lambda: person.browser.execute_script(f"const all = {cells}; all[0]?.click(); return all[0]?.title")
    )
    wait_until(lambda: node.rpartition("/")[2] in person.address)
    wait_until(lambda: set(person.browser.execute_script(f"return {cells}.map((cell) => cell.title)")) == {node})
    assert person.find("input[name=node]").get_attribute("value") == node.rpartition("/")[2]


def test_an_account_at_rest_is_drawn_from_what_is_known(person: Person) -> None:
    person.go("#/jobs")
    statuses = """return performance.getEntriesByType("resource").filter((each) => each.name.includes("/ui/api/jobs"))
        .map((each) => each.responseStatus)"""
    wait_until(lambda: 304 in person.browser.execute_script(statuses))
    person.sees("Id begins with")


def test_help_lists_the_keys(person: Person) -> None:
    person.press("?")
    person.sees("to the filter")
    person.press(Keys.ESCAPE)
    wait_until(lambda: not person.browser.find_elements(By.CSS_SELECTOR, "dialog[open]"))


def test_everything_that_can_be_used_has_a_name(person: Person, account: str) -> None:
    nameless = """return [...document.querySelectorAll("a, button, input, select, svg[role=img], [role=region]")]
        .filter((each) => !each.closest("dialog") && !(each.getAttribute("aria-label") || each.textContent.trim()
          || each.labels?.length)).map((each) => each.outerHTML)"""
    for place in (
        "#/",
        "#/pools",
        "#/pools/workshop",
        "#/jobs",
        "#/jobs/letters",
        "#/jobs/letters/tasks/bad",
        "#/requests",
    ):
        person.go(place)
        wait_until(lambda: person.browser.find_elements(By.CSS_SELECTOR, "main h1"))
        assert person.browser.execute_script(nameless) == []
        assert len(person.browser.find_elements(By.TAG_NAME, "h1")) == 1


def test_the_page_asks_no_other_address(person: Person, account: str) -> None:
    asked = set()
    for entry in person.browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            asked.add(message["params"]["request"]["url"])
    asked = {url for url in asked if url.startswith(("http", "ws"))}  # the browser's own pages are of no concern
    assert asked
    assert {url for url in asked if not url.startswith(person.service.url + "/ui/")} == set()


def test_signing_out_locks_the_page(browser: Any, page_service: BatchService) -> None:
    """The last test of this browser: everybody else is inside."""
    browser.get(make_link(page_service.url, page_service.key))
    person = Person(browser, page_service)
    person.sees("Overview", "Sign out")
    person.find("button[data-do=leave]").click()
    person.sees("This page needs a link")
    browser.refresh()
    person.sees("This page needs a link")
