"""The command `azbatchwrap`: finds the command's file when it is needed, and turns errors into messages and exit codes.

Exit codes: 0 all done, 1 some items failed, 2 wrong use or bad input, 3 the service refused or is unreachable,
130 interrupted.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import click

from azbatchwrap.errors import AzBatchWrapError, ConfigurationError, ManifestError, ServiceError

Command = TypeVar("Command", bound=Callable[..., Any])

#: Command -> where it is, and its line in ``azbatchwrap --help``: that page must import nothing but click.
COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("azbatchwrap.cli.init:init", "Write a working example into a folder."),
    "run": ("azbatchwrap.cli.run:run", "Run a manifest and bring its results."),
    "plan": ("azbatchwrap.cli.plan:plan", "Say what a manifest or script would upload, make and use again."),
    "config": ("azbatchwrap.cli.config:config", "Check keys, storage and images before anything is paid for."),
    "pool": ("azbatchwrap.cli.pool:pool", "List, show, resize and delete pools."),
    "job": ("azbatchwrap.cli.job:job", "List, show, wait for, download, cancel, retry and delete jobs."),
    "task": ("azbatchwrap.cli.task:task", "List and show tasks, follow their logs, list their files."),
    "processor": ("azbatchwrap.cli.processor:processor", "Inference requests from queues, every one answered."),
    "local": ("azbatchwrap.cli.local:local", "Azure Batch and storage on this machine: up, down, status, env."),
    "batchkit": ("azbatchwrap.cli.batchkit:batchkit", "Dispatch work items to many endpoints; report on a run."),
}

EXAMPLES = """\b
Examples:
  azbatchwrap init my-batch && cd my-batch
  azbatchwrap run task.json --input data.csv
  azbatchwrap job retry JOB --failed
  azbatchwrap local up
"""

INTERRUPTED = 130
#: As click and rich end when the reader of their output goes away.
READER_GONE = 1


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called, not when they are listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(error.format_message() + hint, ctx) from error


def version_option(command: Command) -> Command:
    return click.option(
        "--version", is_flag=True, expose_value=False, is_eager=True, callback=_show_version, help="Show the version."
    )(command)


def _show_version(ctx: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(version_line())
        ctx.exit()


def version_line() -> str:
    from importlib.metadata import version

    return f"azbatchwrap {version('azbatchwrap')}"


@click.group(cls=LazyGroup, epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@version_option
@click.option("-v", "--verbose", count=True, help="Say what is sent and retried; twice for every detail.")
def cli(verbose: int) -> None:
    """Batch work in Python: on this machine first, then on Azure, unchanged."""
    _log_to_stderr(verbose)


def _log_to_stderr(verbose: int) -> None:
    """What matters to the caller is printed by the commands; the log, ours and the SDKs', is for those who ask for it."""
    import logging

    logging.getLogger().addHandler(logging.NullHandler())
    if not verbose:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    ours = logging.getLogger("azbatchwrap")
    ours.addHandler(handler)
    ours.setLevel(logging.DEBUG if verbose > 1 else logging.INFO)


def exit_code_of(error: BaseException) -> int:
    """The exit code that an error of the package stands for."""
    if isinstance(error, ConfigurationError | ManifestError):
        return 2
    return 3 if isinstance(error, ServiceError) else 1


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Entry point of the console script; ends the process with the command's exit code."""
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    try:
        code: Any = cli.main(args=arguments, prog_name="azbatchwrap", standalone_mode=False, terminal_width=_width())
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        _complain("interrupted")
        return INTERRUPTED
    except AzBatchWrapError as error:
        _complain(f"error: {error}")
        return exit_code_of(error)
    except OSError as error:
        if isinstance(error, BrokenPipeError) or error.errno == errno.EPIPE:
            _forget_output()
            return READER_GONE
        _complain(f"error: {error}")
        return 1


def _width() -> int:
    """Columns of help pages, as click counts them. Left to itself it imports shutil, and with it every compressor."""
    try:
        columns = os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError, AttributeError):  # no terminal, or no real standard output
        columns = 80
    return max(min(columns, 80) - 2, 50)


def _complain(text: str) -> None:
    click.echo(text, err=True)


def _forget_output() -> None:
    """Python flushes standard output once more when it ends, and would complain there that nobody reads it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())


if __name__ == "__main__":
    main()
