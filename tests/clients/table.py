"""``python -m tests.clients.table``: writes docs/coverage.md from what the clients' tests reported last."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from azbatchwrap.local.batch.routes import FORMER_OPERATIONS, OPERATIONS
from tests.clients.records import Report, load_all
from tests.clients.words import NOT_OFFERED, SIMPLER, SLIPS

PAGE = Path(__file__).parent.parent.parent / "docs" / "coverage.md"
#: The columns, newest first. Names as the reports have them.
DATA_PLANE = (
    "azure-batch 15.1.0 sync",
    "azure-batch 15.1.0 aio",
    "azure-batch 14.2.0",
    "azure-batch 12.0.0",
    "azure-batch 9.0.0",
    "azure-batch 8.0.0",
    "azure-batch 6.0.1",
    "@azure/batch 10.2.0",
    "@azure/batch 8.0.0",
    "azure-cli 2.91.0",
)
MANAGEMENT = ("azure-mgmt-batch", "azure-cli 2.91.0 signed in")
YES, SLIP, NONE = "✓", "trips", "-"


def page(data_plane: Sequence[Report], management: Sequence[Report]) -> str:
    """The whole document."""
    return (
        "\n\n".join(
            (
                "# What the local service covers",
                (
                    "Written by `python -m tests.clients.table` from the tests in `tests/clients`, in which clients that we did "
                    "not write try every operation they have. ✓: the client did it and what came back was right."
                ),
                _operations(data_plane),
                "## Where it is not green",
                _remarks(),
                "## The management side and tokens",
                _management(management),
                "## What is simpler than in Azure",
                "\n".join(f"- {sentence}" for sentence in SIMPLER),
            )
        )
        + "\n"
    )


def _operations(reports: Sequence[Report]) -> str:
    versions = [", ".join(sorted({each.api_version for each in report.tried})) for report in reports]
    lines = [
        f"| operation | {' | '.join(report.client for report in reports)} |",
        f"|---|{'---|' * len(reports)}",
        f"| *api-version* | {' | '.join(versions)} |",
    ]
    names = [name for name, *_ in (*OPERATIONS, *FORMER_OPERATIONS)]
    lines += [f"| {name} | {' | '.join(_cell(report, name) for report in reports)} |" for name in names]
    return "\n".join(lines)


def _cell(report: Report, operation: str) -> str:
    if operation not in report.operations():
        return NONE
    return SLIP if operation in report.failed() else YES


def _remarks() -> str:
    lines = []
    for word, reasons in ((NONE, NOT_OFFERED), (SLIP, SLIPS)):
        grouped: dict[str, dict[str, list[str]]] = {}
        for client, operations in reasons.items():
            for operation, reason in operations.items():
                grouped.setdefault(reason, {}).setdefault(client, []).append(operation)
        for reason, clients in grouped.items():
            places = "; ".join(f"{client}: {', '.join(names)}" for client, names in clients.items())
            lines.append(f"- {word} {reason} ({places}).")
    return "\n".join(lines)


def _management(reports: Sequence[Report]) -> str:
    parts = []
    for report in reports:
        version = ", ".join(sorted({each.api_version for each in report.tried}))
        failed = report.failed()
        names = [f"{name}{'' if name not in failed else f' ({failed[name]})'}" for name in dict.fromkeys(
            each.operation for each in report.tried
        )]  # fmt: skip
        parts.append(f"**{report.client}** (api-version {version}), all ✓: {', '.join(f'`{name}`' for name in names)}.")
    return "\n\n".join(parts)


def written_cells(client: str) -> dict[str, bool]:
    """Operation -> whether the written table calls it green for this client."""
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    column = rows[0].index(client)
    return {row[0]: row[column] == YES for row in rows[3:]}


def main() -> int:
    try:
        text = page(load_all(DATA_PLANE), load_all(MANAGEMENT))
    except FileNotFoundError as error:
        sys.stderr.write(f"{error.filename} is missing: run `pytest tests/clients/test_clients.py` first\n")
        return 1
    PAGE.write_text(text, encoding="utf-8")
    sys.stdout.write(f"wrote {PAGE}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
