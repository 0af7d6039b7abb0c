"""The links that the command line prints, and the page behind them."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import requests

from tests.fixtures_stack import LocalStack, clean_environment, run_cli


def enters(link: str) -> int:
    """The status of the exchange of a link's secret."""
    address, _, secret = link.strip().partition("/ui/#enter=")
    headers = {"origin": address, "x-page": "azbatchwrap"}
    return requests.post(f"{address}/ui/api/enter", data=secret, headers=headers, timeout=30).status_code


def test_up_and_open_print_links_that_work_once(local_stack: LocalStack) -> None:
    up = local_stack.run("local", "up")
    printed = [line for line in up.stdout.splitlines() if "/ui/#enter=" in line]
    fresh = json.loads(local_stack.run("local", "open", "--json").stdout)["url"]
    assert len(printed) == 1
    assert [enters(printed[0]), enters(fresh), enters(fresh)] == [204, 204, 403]


def test_open_hands_the_browser_a_private_file_and_not_the_link(local_stack: LocalStack, tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf "%s" "$1" > {tmp_path}/asked\n')
    browser.chmod(0o755)
    done = local_stack.run("local", "open", "--browser", BROWSER=str(browser))
    assert done.returncode == 0, done.stderr
    asked = (tmp_path / "asked").read_text()
    assert "enter=" not in asked
    page = Path(asked.removeprefix("file://"))
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert done.stdout.strip() in page.read_text()


def test_open_needs_a_running_instance(tmp_path: Path) -> None:
    done = run_cli("local", "open", folder=tmp_path, environment=clean_environment(tmp_path / "none"))
    assert done.returncode == 2
    assert "azbatchwrap local up" in done.stderr
