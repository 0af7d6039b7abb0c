"""What `azbatchwrap processor top` shows: the facts of a running processor as a table that is drawn again and again."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from azbatchwrap.errors import ConfigurationError, Unreachable

if TYPE_CHECKING:
    from rich.table import Table

#: Seconds for one look.
TIMEOUT = 5.0


def look(url: str) -> dict[str, Any]:
    """The facts that the processor at ``url`` serves at /summary. Raises Unreachable or ConfigurationError."""
    import http.client

    import orjson

    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme != "http" or not parts.hostname:
        raise ConfigurationError(f"{url!r} is no address such as http://127.0.0.1:8081")
    connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=TIMEOUT)
    try:
        connection.request("GET", "/summary")
        answer = connection.getresponse()
        if answer.status != 200:
            raise Unreachable(f"{url} is no processor: it answers {answer.status}", status=answer.status)
        facts: dict[str, Any] = orjson.loads(answer.read())
    except (OSError, http.client.HTTPException, orjson.JSONDecodeError) as error:
        raise Unreachable(f"no processor answers at {url} (was it started with --port?): {error}") from error
    finally:
        connection.close()
    return facts


@dataclass(slots=True)
class Screen:
    """Turns facts into a table; rates come from the look before."""

    results: float = 0.0
    attempts: float = 0.0
    at: float = field(default_factory=time.monotonic)
    first: bool = True

    def table(self, facts: dict[str, Any]) -> Table:
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, show_edge=False, title=self._title(facts), title_justify="left")
        for column in ("what", "now", "more"):
            table.add_column(column, overflow="fold")
        for row in self.rows(facts):
            table.add_row(*row)
        return table

    def rows(self, facts: dict[str, Any]) -> list[tuple[str, str, str]]:
        """Three words for each line of the table."""
        rows = []
        for name, stats in facts["queues"].items():
            waits = f"{stats['ready']} ready, {stats['delayed']} delayed, {stats['leased']} in flight"
            age = "" if stats["oldest"] is None else f"oldest {stats['oldest']:.0f} s"
            rows.append((name, waits, f"{stats['results']} results, {stats['dead']} dead; {age}".rstrip("; ")))
        for endpoint in facts["endpoints"]:
            flying = f"{endpoint['in_flight']} of {endpoint['limit']} in flight"
            rows.append((endpoint["url"], flying, f"breaker {endpoint['breaker']}"))
        latency = ", ".join(
            f"p{float(share) * 100:.0f} ≤ {bound:g} s" for share, bound in facts["latency"].items() if bound is not None
        )
        rows.append(("latency", latency or "-", ""))
        rows += [(f"result {code}", f"{number:.0f}", "") for code, number in sorted(facts["results"].items())]
        rows += [(f"retry {reason}", f"{number:.0f}", "") for reason, number in sorted(facts["retries"].items())]
        return rows

    def _title(self, facts: dict[str, Any]) -> str:
        now, results = time.monotonic(), sum(facts["results"].values())
        passed = max(1e-6, now - self.at)
        rates = f"{(results - self.results) / passed:.0f} results/s, {(facts['attempts'] - self.attempts) / passed:.0f} attempts/s"
        state = "ready" if facts["ready"] else "not ready"
        title = state if self.first else f"{state}, {rates}"
        self.results, self.attempts, self.at, self.first = results, facts["attempts"], now, False
        return title
