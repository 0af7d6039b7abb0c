"""`azbatchwrap batchkit`: runs a batch type of yours over many endpoints, and reports on a run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from azbatchwrap.cli.output import note, print_facts, print_json

if TYPE_CHECKING:
    from azbatchwrap.batchkit import RunReport

EPILOG = """\b
Examples:
  azbatchwrap batchkit run scoring.py:Texts -e endpoints.yaml -i texts -o scores
  azbatchwrap batchkit run scoring.py:Texts -e endpoints.yaml -o scores --mode REST
  azbatchwrap batchkit report scores
"""

_folder = click.Path(path_type=Path, file_okay=False)


@click.group(epilog=EPILOG)
def batchkit() -> None:
    """Dispatch work items to many endpoints."""


@batchkit.command(epilog=EPILOG)
@click.argument("batch_type", metavar="MODULE:CLASS")
@click.option(
    "--endpoints",
    "-e",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="YAML or JSON, followed while running.",
)
@click.option("--input-folder", "-i", type=_folder, help="What to do (ONESHOT), or to watch (DAEMON).")
@click.option("--output-folder", "-o", required=True, type=_folder, help="Takes results.jsonl and run_summary.json.")
@click.option("--log-folder", type=_folder, help="Takes run.log.")
@click.option("--mode", "-m", default="ONESHOT", show_default=True, help="ONESHOT, DAEMON or REST (also: APISERVER).")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting of the batch type.")
@click.option("--strict", is_flag=True, help="Refuse an endpoint file with any wrong entry.")
@click.option(
    "--poll", default=5.0, show_default=True, help="Seconds between scans of the input folder, for network folders."
)
@click.option("--poll-only", is_flag=True, help="Do not rely on notifications of changes.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where REST listens; elsewhere needs a token.")
@click.option("--port", default=5000, show_default=True, help="Where REST listens; 0 takes a free one.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Holds the token that callers need.",
)
@click.option("--drain", default=8.0, show_default=True, help="Seconds that SIGTERM leaves to items in flight.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
@click.pass_context
def run(ctx: click.Context, /, batch_type: str, as_json: bool, **given: Any) -> None:
    """Run a batch type: a class of yours that makes work items (see docs/batchkit.md)."""
    from azbatchwrap import batchkit as kit
    from azbatchwrap.batchkit.registry import load_batch_type
    from azbatchwrap.progress import for_stream

    try:
        mode = kit.Mode.of(given["mode"])
    except ValueError as error:
        raise click.BadParameter("use ONESHOT, DAEMON or REST", ctx, param_hint="--mode") from error
    kind = load_batch_type(batch_type)
    folders = {name: given[name] for name in ("input_folder", "output_folder", "log_folder")}
    config = kind.config_type.from_args({**folders, **_settings(given["settings"])})
    options = kit.RunOptions(
        mode=mode, endpoints=given["endpoints"], strict=given["strict"], poll=given["poll"],
        poll_only=given["poll_only"], drain=given["drain"],
        server=kit.ServerOptions(given["host"], given["port"], _token(given["token_file"])),
    )  # fmt: skip
    with for_stream(sys.stderr) as progress:
        report = kit.run(kind, config, options, progress=progress)
    _show(report, config.output_folder, as_json=as_json)
    ctx.exit(report.exit_code)


def _settings(words: tuple[str, ...]) -> dict[str, str]:
    pairs = [word.partition("=") for word in words]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise click.BadParameter(f"expected KEY=VALUE, found {name!r}", param_hint="--set")
    return {name: value for name, _, value in pairs}


def _token(path: Path | None) -> str | None:
    if path is None:
        return None
    token = path.read_text(encoding="utf-8").strip()
    if not token:
        raise click.BadParameter(f"{path} is empty", param_hint="--token-file")
    return token


def _show(report: RunReport, output: Path, *, as_json: bool) -> None:
    counts = report.counts
    facts = {
        "passed": counts.passed, "failed": counts.failed, "cached": counts.cached, "undone": report.undone,
        "output": str(output),
    }  # fmt: skip
    if as_json:
        print_json({**facts, "faults": report.faults})
        return
    print_facts(facts)
    for fault in report.faults:
        note(f"error: {fault}")


@batchkit.command(epilog="\b\nExample:\n  azbatchwrap batchkit report scores --output scores.html")
@click.argument("output_folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Default: report.html in that folder.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def report(output_folder: Path, output: Path | None, as_json: bool) -> None:
    """Draw a page on a run: throughput, latencies, shares of the endpoints, failures by reason."""
    from azbatchwrap.batchkit.report import write_report

    target = output or output_folder / "report.html"
    figures = write_report(output_folder, target)
    facts = {"items": figures.total, "passed": figures.passed, "failed": figures.failed, "report": str(target)}
    if as_json:
        print_json(facts)
    else:
        print_facts(facts)
