"""`azbatchwrap config`: what is configured, from where, and whether it works."""

from __future__ import annotations

import click

from azbatchwrap.cli.opening import json_option, load_settings, project_option
from azbatchwrap.cli.output import print_json, print_table

EPILOG = """\b
Examples:
  azbatchwrap config check
  azbatchwrap config show --json
"""
_WORDS = {True: "ok", False: "failed", None: "-"}


@click.group(epilog=EPILOG)
def config() -> None:
    """Check keys, storage and images before anything is paid for."""


@config.command(epilog="\b\nExample:\n  azbatchwrap config check --json")
@project_option
@json_option
def check(project: str | None, as_json: bool) -> None:
    """Ask both accounts whether the work could start: keys, storage, image, pools, quota where known."""
    from azbatchwrap.batch.checks import checks

    results = list(checks(load_settings(project=project)))
    if as_json:
        print_json(results)
    else:
        print_table(("check", "result", "detail"), ((item.name, _WORDS[item.ok], item.detail) for item in results))
    failed = [item for item in results if item.ok is False]
    if failed:
        raise click.exceptions.Exit(2 if any(item.wrong_use for item in failed) else 3)


@config.command(epilog="\b\nExample:\n  azbatchwrap config show")
@project_option
@json_option
def show(project: str | None, as_json: bool) -> None:
    """Show every setting and the layer it came from. Keys are never shown."""
    settings = load_settings(project=project)
    values: dict[str, object] = {
        "batch_account": settings.batch.name,
        "batch_key": settings.batch.key,
        "batch_url": settings.batch.url,
        "storage_account": settings.storage.name,
        "storage_connection_string": settings.storage.connection_string,
        "storage_url": settings.storage.blob_url,
        "subscription": settings.management.subscription if settings.management else None,
        "cloud_metadata": settings.management.metadata_url or None if settings.management else None,
        "project": settings.project,
        **{
            name: getattr(settings.pool, name)
            for name in ("node_count", "vm_size", "publisher", "offer", "sku", "slots_per_node")
        },
    }
    rows = [
        (name, None if value is None else str(value), settings.sources.get(name, "")) for name, value in values.items()
    ]
    if as_json:
        print_json({name: {"value": value, "source": source} for name, value, source in rows})
        return
    print_table(("setting", "value", "source"), rows)
