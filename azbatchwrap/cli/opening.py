"""Opens what a command works on: the settings in force, and the account they name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import click

from azbatchwrap.cli.output import note

if TYPE_CHECKING:
    from azbatchwrap.batch import AzureBatch
    from azbatchwrap.batch.jobs import Jobs
    from azbatchwrap.batch.pools import Pools
    from azbatchwrap.batch.service import Service
    from azbatchwrap.config import Settings

Command = TypeVar("Command", bound=Callable[..., Any])


def json_option(command: Command) -> Command:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")(command)


def project_option(command: Command) -> Command:
    text = "The project whose pools, jobs and files are meant (default: the configured one)."
    return click.option("--project", metavar="NAME", help=text)(command)


def yes_option(command: Command) -> Command:
    return click.option("--yes", "-y", is_flag=True, help="Do not ask.")(command)


def confirm(question: str, *, yes: bool) -> None:
    """Goes on only with consent. Without a terminal there is nobody to ask, so ``--yes`` has to be given."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} Nobody can be asked here: use --yes.")
    if not click.confirm(question, err=True):
        note("nothing was done")
        raise click.exceptions.Exit(1)


def load_settings(**overrides: object) -> Settings:
    """The settings in force. What is worth knowing about them is printed, such as that nothing is configured."""
    from azbatchwrap import config

    given: Mapping[str, object] = {name: value for name, value in overrides.items() if value is not None}
    settings = config.load(overrides=given, tell=note)
    for warning in settings.warnings:
        note(warning)
    return settings


@dataclass(frozen=True)
class Account:
    """The Batch account of some settings, its parts made when they are asked for."""

    settings: Settings

    @cached_property
    def service(self) -> Service:
        from azbatchwrap.batch.service import Service

        return Service(self.settings.batch)

    @cached_property
    def pools(self) -> Pools:
        from azbatchwrap.batch.pools import Pools

        return Pools(self.service, self.settings.pool, self.settings.project)

    @cached_property
    def jobs(self) -> Jobs:
        from azbatchwrap.batch.jobs import Jobs

        return Jobs(self.service, self.settings.project)


def open_account(project: str | None = None) -> Account:
    return Account(load_settings(project=project))


@contextmanager
def open_batch(
    project: str | None = None, settings: Settings | None = None, *, patience: str | None = None
) -> Iterator[AzureBatch]:
    """A manager that shows its progress on standard error, closed at the end. ``patience`` is as `AzureBatch` takes it."""
    from azbatchwrap.batch import AzureBatch
    from azbatchwrap.batch.patience import DEFAULT_PATIENCE
    from azbatchwrap.progress import for_stream
    from azbatchwrap.storage import AzureBatchStorage

    found = settings or load_settings(project=project)
    with (
        for_stream(sys.stderr) as progress,
        AzureBatchStorage(found, progress=progress) as storage,
        AzureBatch(storage, progress=progress, patience=patience or DEFAULT_PATIENCE) as batch,
    ):
        yield batch
