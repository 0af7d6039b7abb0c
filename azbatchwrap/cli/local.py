"""`azbatchwrap local`: Azure Batch and storage on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from azbatchwrap.cli.chaos import chaos, chaos_options
from azbatchwrap.cli.opening import confirm, json_option, yes_option

if TYPE_CHECKING:
    from azbatchwrap.local.speech.engines import EngineName
    from azbatchwrap.local.stack import PartName, Stack, Status
    from azbatchwrap.progress import Progress

SERVICES: tuple[PartName, ...] = ("batch", "storage", "aml")
#: How often `logs -f` and `up --foreground` look for news (seconds).
FOLLOW_INTERVAL = 0.3

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _data_dir(command: _Command) -> _Command:
    return click.option(
        "--data-dir",
        type=click.Path(file_okay=False, path_type=Path),
        help="The instance's folder (default: AZBATCHWRAP_HOME, else your data folder).",
    )(command)


@click.group()
def local() -> None:
    """Azure Batch, storage and Machine Learning on this machine: real services that any client can talk to.

    \b
    Examples:
      azbatchwrap local up
      eval "$(azbatchwrap local env)"      for az, your SDK, other programs
      azbatchwrap local down
    """


local.add_command(chaos)


@local.command()
@_data_dir
@click.option("--batch-port", type=click.IntRange(0, 65535), help="Port of the Batch service; 0 takes a free one.")
@click.option("--blob-port", type=click.IntRange(0, 65535), help="Port of Azurite's Blob service; 0 takes a free one.")
@click.option(
    "--queue-port", type=click.IntRange(0, 65535), help="Port of Azurite's Queue service; 0 takes a free one."
)
@click.option(
    "--storage",
    metavar="CONNECTION_STRING",
    envvar="AZBATCHWRAP_LOCAL_STORAGE",
    help="Use this storage account or Azurite; '-' reads it from standard input, 'azurite' goes back to our own.",
)
@click.option("--max-processes", type=click.IntRange(1), help="Tasks that run at once (default: the CPU count).")
@click.option(
    "--aml/--no-aml",
    "--management/--no-management",
    default=None,
    help="Also Azure Resource Manager, the management side of Batch, and Machine Learning; kept until changed.",
)
@click.option("--aml-port", type=click.IntRange(0, 65535), help="Their port (https); 0 takes a free one.")
@click.option(
    "--aml-fault",
    "aml_faults",
    multiple=True,
    metavar="JSON",
    help='A fault of theirs, such as \'{"kind": "throttled", "path": "/computes/", "times": 1}\'; may be repeated.',
)
@chaos_options
@click.option("--foreground", is_flag=True, help="Stay, show the logs, and end everything on Ctrl-C.")
@json_option
def up(
    *,
    data_dir: Path | None,
    storage: str | None,
    foreground: bool,
    as_json: bool,
    aml: bool | None,
    aml_faults: Sequence[str],
    chaos: Mapping[str, Any],
    **numbers: int | None,
) -> None:
    """Start what is not running, and return when everything answers.

    Ports, keys and data stay in the data folder: starting again goes on where it ended.

    \b
    Examples:
      azbatchwrap local up
      azbatchwrap local up --data-dir ./azure --batch-port 10100
      azbatchwrap local up --storage - < connection-string.txt
      azbatchwrap local up --aml           for batchcreate, azure-ai-ml, azure-mgmt-resource, az batch application
      azbatchwrap local up --throttle 0.2 --error 0.05 --seed 1
    """
    from azbatchwrap.config import Secret
    from azbatchwrap.local.stack import Options

    if storage == "-":
        storage = sys.stdin.readline().strip()
    options = Options(
        storage=Secret(storage) if storage else None,
        aml=True if aml_faults else aml,
        aml_faults=_faults(aml_faults),
        chaos=chaos or None,
        **numbers,
    )
    with _working(data_dir) as stack:
        status = stack.up(options)
    if as_json:
        click.echo(json.dumps(_facts(status), indent=2))
    else:
        _say_up(stack, status, data_dir)
    if foreground:
        _stay(stack)


@local.command()
@_data_dir
def down(data_dir: Path | None) -> None:
    """End the services gracefully. Data, keys and ports stay.

    \b
    Example:
      azbatchwrap local down
    """
    with _working(data_dir) as stack:
        was_up = stack.down()
    click.echo(f"ended (data stays in {stack.folder})" if was_up else f"nothing runs in {stack.folder}")


@local.command()
@_data_dir
@json_option
@click.pass_context
def status(ctx: click.Context, data_dir: Path | None, as_json: bool) -> None:
    """Show what runs, and where. Exit code 0: everything answers, 1: not everything.

    \b
    Example:
      azbatchwrap local status --json
    """
    found = _stack(data_dir).status()
    if as_json:
        click.echo(json.dumps(_facts(found), indent=2))
    else:
        _print_status(found)
    ctx.exit(0 if found.is_up else 1)


@local.command()
@_data_dir
@click.option(
    "--format",
    "form",
    type=click.Choice(["sh", "json", "credentials"]),
    default="sh",
    show_default=True,
    help="Shell exports, a JSON object of variables, or the content of a credentials.json.",
)
def env(data_dir: Path | None, form: str) -> None:
    """Print what other programs need to use this instance: addresses and keys.

    \b
    Examples:
      eval "$(azbatchwrap local env)" && az batch pool list
      azbatchwrap local env --format credentials > credentials.json
    """
    endpoint = _stack(data_dir).endpoint()
    variables = _variables(endpoint)
    if "aml" in endpoint:
        from azbatchwrap.local import management
        from azbatchwrap.local.arm.certificate import Certificate

        # What this shell trusts, which need not be what the shell trusted that started the instance.
        Certificate(Path(endpoint["aml"]["ca_bundle"]).parent).write_bundle(os.environ)
        variables |= management.variables(endpoint["aml"])
    if form == "sh":
        for name, value in variables.items():
            click.echo(f"export {name}={shlex.quote(value)}")
    else:
        click.echo(json.dumps(variables if form == "json" else _credentials(endpoint), indent=2))


@local.command("open")
@_data_dir
@click.option("--browser", is_flag=True, help="Also open it in your browser.")
@json_option
def open_page(data_dir: Path | None, browser: bool, as_json: bool) -> None:
    """Print a link to the page that shows this instance at work. It opens the page once, within 10 minutes.

    The browser that it opened in stays in for 12 hours.

    \b
    Examples:
      azbatchwrap local open
      azbatchwrap local open --browser
    """
    stack = _stack(data_dir)
    link = _page_link(stack)
    click.echo(json.dumps({"url": link}) if as_json else link)
    if browser:
        _open_in_browser(stack.folder, link)


@local.command()
@_data_dir
@yes_option
def reset(data_dir: Path | None, yes: bool) -> None:
    """Empty the account: every pool, job, blob, queue and resource. The instance keeps running, with its keys and ports.

    \b
    Example:
      azbatchwrap local reset --yes
    """
    folder = _stack(data_dir).folder
    confirm(f"Remove every pool, job, blob, queue and resource in {folder}?", yes=yes)
    with _working(data_dir) as stack:
        found = stack.reset()
    click.echo(f"emptied {folder}" + ("; it is up again" if found.is_up else ""))


@local.command()
@_data_dir
@click.option("-f", "--follow", is_flag=True, help="Go on showing what comes.")
@click.option("--service", type=click.Choice(SERVICES), help="Only this one's log.")
@click.option("-n", "--lines", type=click.IntRange(0), default=50, show_default=True, help="How many lines of each.")
def logs(data_dir: Path | None, follow: bool, service: PartName | None, lines: int) -> None:
    """Show what the services logged.

    \b
    Examples:
      azbatchwrap local logs --service batch
      azbatchwrap local logs -f
    """
    chosen = (service,) if service else SERVICES
    reader = LogReader(_stack(data_dir), chosen, lines)
    reader.show()
    while follow:
        time.sleep(FOLLOW_INTERVAL)
        reader.show()


@local.command()
@click.option(
    "--engine",
    type=click.Choice(["fixed", "sphinx"]),
    default="fixed",
    show_default=True,
    help="Hear one sentence in everything, or what pocketsphinx hears (English).",
)
@click.option("--text", help="The sentence that the engine fixed hears.")
@click.option("--port", type=click.IntRange(0, 65535), default=5000, show_default=True, help="0 takes a free one.")
@click.option("--latency", type=click.FloatRange(0), default=0.0, metavar="SECONDS", help="Answer this much later.")
@click.option(
    "--error-rate",
    type=click.FloatRange(0, 1),
    default=0.0,
    metavar="SHARE",
    help="Let this share of the requests fail, evenly spread.",
)
@json_option
def speech(
    engine: EngineName, text: str | None, *, port: int, latency: float, error_rate: float, as_json: bool
) -> None:
    """Stand in for a speech container, until Ctrl-C: for the Speech SDKs, REST clients and run-batch-client.

    It takes no key, and no connections from elsewhere. GET /requests shows what clients asked for.

    \b
    Examples:
      azbatchwrap local speech
      azbatchwrap local speech --engine sphinx --port 6001
      azbatchwrap local speech --latency 0.5 --error-rate 0.1
    """
    import asyncio

    from azbatchwrap.local.speech.container import Options
    from azbatchwrap.local.speech.engines import SENTENCE
    from azbatchwrap.local.speech.server import serve

    def tell(url: str) -> None:
        said = json.dumps({"url": url, "engine": engine}) if as_json else f"speech ({engine}) answers on {url}"
        click.echo(said)
        sys.stdout.flush()

    asyncio.run(serve(Options(engine, text or SENTENCE, "127.0.0.1", port, latency, error_rate), tell))


def _faults(given: Sequence[str]) -> tuple[Mapping[str, Any], ...] | None:
    """The faults as records; ``None`` when none was given."""
    from azbatchwrap.local.arm.errors import ArmError
    from azbatchwrap.local.arm.faults import Fault

    read: list[Mapping[str, Any]] = []
    for text in given:
        try:
            fault = json.loads(text)
            Fault.read(fault)
        except (ValueError, TypeError, AttributeError, ArmError) as error:
            raise click.BadParameter(f"{text} is not a fault: {error}", param_hint="--aml-fault") from error
        read.append(fault)
    return tuple(read) or None


class LogReader:
    """Prints what is new in the services' logs, each line after its service's name."""

    def __init__(self, stack: Stack, services: Sequence[PartName], lines: int) -> None:
        from azbatchwrap.local.processes import tail

        self._logs = {name: stack.log_file(name) for name in services}
        self._read = {name: _size(path) for name, path in self._logs.items()}
        for name, path in self._logs.items():
            self._print(name, tail(path, lines).splitlines() if lines else [])

    def show(self) -> None:
        for name, path in self._logs.items():
            size = _size(path)
            start = self._read[name] if size >= self._read[name] else 0  # it was rotated
            if size > start:
                with path.open("rb") as file:
                    file.seek(start)
                    content = file.read(size - start)
                self._read[name] = start + len(content)
                self._print(name, content.decode(errors="replace").splitlines())

    def _print(self, name: str, lines: Sequence[str]) -> None:
        for line in lines:
            click.echo(f"{name:7} | {line}" if len(self._logs) > 1 else line)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _stack(data_dir: Path | None, progress: Progress | None = None) -> Stack:
    from azbatchwrap.config import data_folder
    from azbatchwrap.local.stack import Stack

    return Stack(data_dir or data_folder(), progress)


@contextlib.contextmanager
def _working(data_dir: Path | None) -> Iterator[Stack]:
    """The stack, with what it has to say on standard error."""
    from azbatchwrap.progress import for_stream

    with for_stream(sys.stderr) as progress:
        yield _stack(data_dir, progress)


def _stay(stack: Stack) -> None:
    """Show the logs until Ctrl-C or SIGTERM, or until a service dies; then end everything."""
    ending = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ending.set())
    reader = LogReader(stack, SERVICES, 0)
    while not ending.wait(FOLLOW_INTERVAL):
        reader.show()
        lost = [part.name for part in stack.status().parts if part.state == "down"]
        if lost:
            break
    else:
        lost = []
    stack.down()
    reader.show()
    if lost:
        raise click.ClickException(f"the {' and '.join(lost)} service ended by itself; see {stack.log_file(lost[0])}")


def _page_link(stack: Stack) -> str:
    from azbatchwrap.local.web.links import make_link

    batch = stack.endpoint()["batch"]
    return make_link(batch["url"], batch["key"])


def _open_in_browser(folder: Path, link: str) -> None:
    """By way of a file that only the user may read: a browser's arguments are for every user of the machine to see."""
    import html
    import os
    import webbrowser

    page = folder / "open.html"
    text = f'<!doctype html><meta http-equiv="refresh" content="0;url={html.escape(link)}">'
    with open(page, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(text)
    if not webbrowser.open(page.as_uri()):
        raise click.ClickException("no browser could be started here; open the printed link in one")


def _say_up(stack: Stack, status: Status, data_dir: Path | None) -> None:
    import getpass

    place = f" --data-dir {shlex.quote(str(status.folder))}" if data_dir else ""
    _print_status(status)
    click.echo(
        f"Tasks run on this machine as the user {getpass.getuser()}, with that user's own rights: "
        f"a start task that asks for an administrator gets no more.\n"
        f"azbatchwrap uses it whenever no Azure account is configured; other programs: "
        f'eval "$(azbatchwrap local env{place})"'
    )
    if status.is_up:
        click.echo(
            f"Look at it (once, within 10 minutes; azbatchwrap local open{place} makes another link):\n  {_page_link(stack)}"
        )


def _print_status(status: Status) -> None:
    states = {part.state for part in status.parts}
    state = "up" if status.is_up else "down" if states <= {"down"} else "partly down (azbatchwrap local up mends it)"
    click.echo(f"Azure on this machine is {state} (data in {status.folder})")
    for part in status.parts:
        process = f", process {part.pid}" if part.pid else ""
        click.echo(f"  {part.name:8} {part.state:5} {part.url} (account {part.account}{process})")


def _facts(status: Status) -> dict[str, Any]:
    parts: dict[str, Any] = {
        part.name: {
            "state": part.state,
            "url": part.url,
            "account": part.account,
            "pid": part.pid,
            "log": str(part.log),
        }
        for part in status.parts
    }
    return {"up": status.is_up, "data_dir": str(status.folder), **parts}


def _variables(endpoint: Mapping[str, Any]) -> dict[str, str]:
    batch, storage = endpoint["batch"], endpoint["storage"]
    return {
        "AZURE_BATCH_ACCOUNT": batch["account"],
        "AZURE_BATCH_ACCESS_KEY": batch["key"],
        "AZURE_BATCH_ENDPOINT": batch["url"],
        "AZURE_STORAGE_CONNECTION_STRING": storage["connection_string"],
    }


def _credentials(endpoint: Mapping[str, Any]) -> dict[str, str]:
    batch, storage = endpoint["batch"], endpoint["storage"]
    return {
        "BATCH_ACCOUNT_NAME": batch["account"],
        "BATCH_ACCOUNT_KEY": batch["key"],
        "BATCH_ACCOUNT_URL": batch["url"],
        "STORAGE_CONNECTION_STRING": storage["connection_string"],
    }
