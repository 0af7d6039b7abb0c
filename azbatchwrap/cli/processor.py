"""`azbatchwrap processor`: inference requests from queues to endpoints, and their results back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from azbatchwrap.cli.opening import confirm, json_option, load_settings, yes_option
from azbatchwrap.cli.output import note, print_facts, print_json, print_table, writing

if TYPE_CHECKING:
    from azbatchwrap.processor.run import Line, RunOptions
    from azbatchwrap.progress import Progress
    from azbatchwrap.queues import DeadLetter, Queue

Command = TypeVar("Command", bound=Callable[..., Any])
T = TypeVar("T")

EPILOG = """\b
Examples:
  azbatchwrap processor submit --queue sqlite:///q.sqlite requests.jsonl
  azbatchwrap processor run --queue sqlite:///q.sqlite --endpoint http://localhost:8000/v1/completions --until-empty
  azbatchwrap processor collect --queue sqlite:///q.sqlite results.jsonl
\b
  azbatchwrap processor run --message-queue-impl redis-pubsub --redis.url redis://localhost:6379 \\
      --endpoint http://localhost:8000/v1/completions
"""
QUEUE_HELP = "sqlite:///PATH, redis://HOST:PORT/DB?queue=NAME, azurequeue://NAME or pubsub://PROJECT/SUBSCRIPTION."


def queue_option(command: Command) -> Command:
    return click.option("--queue", "url", metavar="URL", required=True, help=QUEUE_HELP)(command)


def password_option(command: Command) -> Command:
    text = "A file with the Redis password (better than in the URL, which others on this machine can see)."
    return click.option(
        "--redis.password-file", "redis_password_file", type=click.Path(path_type=Path, dir_okay=False), help=text
    )(command)


def queue_options(command: Command) -> Command:
    return queue_option(password_option(command))


@click.group(epilog=EPILOG)
def processor() -> None:
    """Inference requests from queues, every one answered."""


@processor.command(epilog="\b\nExample:\n  azbatchwrap processor submit --queue sqlite:///q.sqlite requests.jsonl")
@queue_options
@click.argument("file", type=click.File("rb"), metavar="FILE|-")
@click.option("--default-deadline", type=float, default=86_400.0, show_default=True, metavar="SECONDS",
              help="How long requests without a deadline may take.")  # fmt: skip
@json_option
def submit(url: str, redis_password_file: Path | None, file: Any, default_deadline: float, as_json: bool) -> None:
    """Put the requests of FILE into a queue: one JSON line each, the seed's or OpenAI's batch lines."""
    from azbatchwrap.processor import submit as submitting
    from azbatchwrap.processor.message import Reader

    async def work(queue: Queue) -> submitting.Submission:
        return await submitting.submit(queue, submitting.numbered_lines(file), Reader(default_deadline))

    report = on_queue(url, redis_password_file, work)
    for fault in report.faults:
        note(fault)
    facts = {
        "stored": report.stored, "same": report.same, "conflicts": report.conflicts, "invalid": report.invalid,
    }  # fmt: skip
    if as_json:
        print_json(facts)
    else:
        note(", ".join(f"{number} {word}" for word, number in facts.items() if number or word == "stored"))
    if not report.complete:
        raise click.exceptions.Exit(1)


@processor.command(
    epilog="\b\nExample:\n  azbatchwrap processor collect --queue sqlite:///q.sqlite results.jsonl --wait"
)
@queue_options
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False), metavar="OUT.jsonl")
@click.option("--wait", is_flag=True, help="Until every message of the queue has its result.")
@click.option("--timeout", type=float, metavar="SECONDS", help="Give up waiting after this long.")
@json_option
def collect(
    url: str, redis_password_file: Path | None, *, out: Path, wait: bool, timeout: float | None, as_json: bool
) -> None:
    """Append each result to OUT.jsonl once; run it again at any time."""
    from azbatchwrap.processor import collect as collecting

    async def work(queue: Queue) -> collecting.Collected:
        return await collecting.collect(queue, out, wait=wait, timeout=timeout, progress=progress)

    with writing(out), _progress(wanted=wait) as progress:
        report = on_queue(url, redis_password_file, work)
    facts = {code.value: number for code, number in report.new.items()}
    if as_json:
        print_json({"new": facts, "known": report.known, "open": report.open, "out": out})
    else:
        said = ", ".join(f"{number} {code}" for code, number in facts.items()) or "nothing new"
        note(f"{out}: {said}; {report.known} were there before, {report.open} are not answered yet")
    if report.failed:
        raise click.exceptions.Exit(1)


@processor.command(epilog="\b\nExample:\n  azbatchwrap processor stats --queue redis://localhost:6379/0 --json")
@queue_options
@json_option
def stats(url: str, redis_password_file: Path | None, as_json: bool) -> None:
    """Show how many messages wait, are in flight, have results or are dead."""
    from dataclasses import asdict

    from azbatchwrap.processor.collect import clear_up

    async def work(queue: Queue) -> dict[str, Any]:
        await clear_up(queue)
        return asdict(await queue.stats())

    facts = on_queue(url, redis_password_file, work)
    if as_json:
        print_json(facts)
        return
    units = {"oldest": " s", "slack": " s"}
    print_facts({
        name: "-" if value is None else f"{value:.1f}{units[name]}" if name in units else value
        for name, value in facts.items()
    })  # fmt: skip


@processor.command(epilog="\b\nExample:\n  azbatchwrap processor cancel --queue sqlite:///q.sqlite request-17")
@queue_options
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@json_option
def cancel(url: str, redis_password_file: Path | None, ids: Sequence[str], as_json: bool) -> None:
    """End requests with the result CANCELLED, in flight too."""
    answers = on_queue(url, redis_password_file, lambda queue: queue.cancel(ids))
    facts = {id_: answer.value for id_, answer in zip(ids, answers, strict=True)}
    if as_json:
        print_json(facts)
    else:
        print_table(("id", "what happened"), facts.items())
    if "unknown" in facts.values():
        raise click.exceptions.Exit(1)


@processor.group(epilog="\b\nExamples:\n  azbatchwrap processor dlq list --queue sqlite:///q.sqlite\n"
                 "  azbatchwrap processor dlq requeue --queue sqlite:///q.sqlite --all --deadline 3600")  # fmt: skip
def dlq() -> None:
    """Look after dead letters: messages that nobody tries again by itself."""


@dlq.command("list", epilog="\b\nExample:\n  azbatchwrap processor dlq list --queue sqlite:///q.sqlite --json")
@queue_options
@json_option
def list_(url: str, redis_password_file: Path | None, as_json: bool) -> None:
    """List the dead letters."""
    letters = on_queue(url, redis_password_file, lambda queue: queue.dead_letters())
    if as_json:
        print_json([_letter(letter) for letter in letters])
    else:
        print_table(("id", "since", "bytes", "reason"), (
            (letter.id, _time(letter.at), len(letter.body), letter.reason) for letter in letters
        ))  # fmt: skip


@dlq.command(epilog="\b\nExample:\n  azbatchwrap processor dlq show --queue sqlite:///q.sqlite request-17")
@queue_options
@click.argument("id_", metavar="ID")
@click.option("--raw", is_flag=True, help="The message's bytes and nothing else.")
@json_option
def show(url: str, redis_password_file: Path | None, id_: str, raw: bool, as_json: bool) -> None:
    """Show a dead letter with its bytes and history."""
    letters = on_queue(url, redis_password_file, lambda queue: queue.dead_letters([id_]))
    if not letters:
        raise click.ClickException(f"there is no dead letter {id_!r}")
    if raw:
        sys.stdout.buffer.write(letters[0].body)
    elif as_json:
        print_json(_letter(letters[0]))
    else:
        print_facts({**_letter(letters[0]), "history": "\n".join(letters[0].history)})


@dlq.command(epilog="\b\nExample:\n  azbatchwrap processor dlq requeue --queue sqlite:///q.sqlite request-17")
@queue_options
@click.argument("ids", nargs=-1, metavar="[ID...]")
@click.option("--all", "everything", is_flag=True, help="All dead letters.")
@click.option("--deadline", type=float, metavar="SECONDS", help="A new deadline, this long from now.")
def requeue(
    url: str, redis_password_file: Path | None, ids: Sequence[str], everything: bool, deadline: float | None
) -> None:
    """Put dead letters back into the queue, with fresh counts."""
    until = None if deadline is None else time.time() + deadline
    _each_letter(url, redis_password_file, ids, everything, lambda queue, chosen: queue.requeue(chosen, until))


@dlq.command(epilog="\b\nExample:\n  azbatchwrap processor dlq purge --queue sqlite:///q.sqlite --all --yes")
@queue_options
@click.argument("ids", nargs=-1, metavar="[ID...]")
@click.option("--all", "everything", is_flag=True, help="All dead letters.")
@yes_option
def purge(url: str, redis_password_file: Path | None, ids: Sequence[str], everything: bool, yes: bool) -> None:
    """Drop dead letters for good; their results stay."""
    confirm("Drop these dead letters for good?", yes=yes)
    _each_letter(url, redis_password_file, ids, everything, lambda queue, chosen: queue.purge(chosen))


def _each_letter(
    url: str,
    password: Path | None,
    ids: Sequence[str],
    everything: bool,
    verb: Callable[[Queue, Sequence[str]], Awaitable[list[bool]]],
) -> None:
    if bool(ids) == everything:
        raise click.UsageError("Name dead letters, or say --all.")

    async def work(queue: Queue) -> list[str]:
        chosen = [letter.id for letter in await queue.dead_letters()] if everything else list(ids)
        return [id_ for id_, done in zip(chosen, await verb(queue, chosen), strict=True) if not done]

    if failed := on_queue(url, password, work):
        raise click.ClickException("not done, for these are no dead letters that were requests: " + ", ".join(failed))


@processor.command(epilog=EPILOG)
@click.option("--queue", "urls", metavar="URL", multiple=True, help=QUEUE_HELP + " May be repeated; #weight=2&tier=1"
              " at the end gives a queue its weight or tier.")  # fmt: skip
@click.option("--endpoint", "endpoints", metavar="URL", multiple=True, required=True,
              help="Where requests are sent (inference gateway). May be repeated.")  # fmt: skip
@click.option("--concurrency", type=click.IntRange(1, 10_000), default=8, show_default=True,
              help="Requests in flight.")  # fmt: skip
@click.option("--inferenceObjective", "--inference-objective", "objective", default="", metavar="NAME",
              help="Value of the header x-gateway-inference-objective.")  # fmt: skip
@click.option("--request-merge-policy", "merge", default="random-robin", show_default=True, metavar="POLICY",
              help="random-robin, weighted, tier-priority, earliest-deadline or fair.")  # fmt: skip
@click.option("--message-queue-impl", "implementation", type=click.Choice(["redis-pubsub"]),
              help="Redis channels, instead of --queue.")  # fmt: skip
@click.option("--redis.url", "redis_url", metavar="URL", default="redis://localhost:6379/0", show_default=True)
@click.option("--redis.request-queue-name", "requests", multiple=True, default=["batch-queue"], show_default=True,
              help="Channel of the requests. May be repeated.")  # fmt: skip
@click.option("--redis.retry-queue-name", "retries", default="batch-sortedset-retry", show_default=True,
              help="Sorted set of the retries.")  # fmt: skip
@click.option("--redis.result-queue-name", "results", default="batch-queue-result", show_default=True,
              help="Channel of the results.")  # fmt: skip
@password_option
@click.option("--request-timeout", type=click.FloatRange(min=0, min_open=True), default=300.0, show_default=True,
              metavar="SECONDS", help="Of one attempt; never beyond the deadline.")  # fmt: skip
@click.option("--retry", type=click.Choice(["exponential", "fixed"]), default="exponential", show_default=True,
              help="How the waits between attempts grow.")  # fmt: skip
@click.option("--retry-base", type=float, default=1.0, show_default=True, metavar="SECONDS")
@click.option("--retry-cap", type=float, default=60.0, show_default=True, metavar="SECONDS")
@click.option("--max-failures", type=click.IntRange(min=1), default=20, show_default=True,
              help="Attempts that the endpoint failed at, after which a request is given up.")  # fmt: skip
@click.option("--gate", "gates", multiple=True, metavar="KIND:NAME=VALUE;...",
              help="constant:share=0.5, concurrency:limit=4, token-bucket:rate=10;burst=20;per=tenant, "
              "prometheus:url=URL;query=PROMQL;below=0.8, scrape:url=URL;metric=NAME;below=10, redis-key:url=URL;key=KEY."
              )  # fmt: skip
@click.option("--token-file", type=click.Path(path_type=Path, dir_okay=False, exists=True),
              help="A bearer token, read again when it is refused.")  # fmt: skip
@click.option("--token-command", metavar="COMMAND", help="Prints a bearer token; run again when it is refused.")
@click.option("--azure-scope", metavar="SCOPE", help="Sign in with the Azure identity in force.")
@click.option("--tls-ca-cert", type=click.Path(path_type=Path, dir_okay=False, exists=True),
              help="Trust this certificate authority too.")  # fmt: skip
@click.option("--lease", type=click.FloatRange(min=1.0), default=30.0, show_default=True, metavar="SECONDS",
              help="How long claims outlive a dead worker.")  # fmt: skip
@click.option("--max-crashes", type=click.IntRange(min=1), default=3, show_default=True,
              help="Workers that may die with a message before it becomes a dead letter.")  # fmt: skip
@click.option("--drain-timeout", type=float, default=120.0, show_default=True, metavar="SECONDS",
              help="For requests in flight at the end.")  # fmt: skip
@click.option("--until-empty", is_flag=True, help="End when every message has its result.")
@click.option("--port", type=click.IntRange(0, 65_535), envvar="AZBATCHWRAP_PROCESSOR_PORT", show_envvar=True,
              help="Serve /healthz, /readyz and /metrics (0: any port).")  # fmt: skip
@click.option("--host", default="127.0.0.1", show_default=True, help="Address for --port.")
@click.option("--openai", "openai_folder", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER",
              help="Serve /v1/files and /v1/batches too, with the files in FOLDER.")  # fmt: skip
@click.option("--api-key-file", type=click.Path(path_type=Path, dir_okay=False, exists=True),
              help="Clients of --openai must show the key in this file.")  # fmt: skip
@click.option("--log-json", is_flag=True, help="Write the log as JSON lines to standard error.")
def run(**given: Any) -> None:
    """Send requests to the endpoints until SIGTERM: then finish what is in flight and hand back the rest."""
    from azbatchwrap.processor.logs import log_to
    from azbatchwrap.processor.run import run_processor

    log_to(sys.stderr, as_json=given["log_json"])
    lines, options = _lines(given), _run_options(given)
    # For somebody who watches or waits; a service's log is for its own lines.
    wanted = not given["log_json"] and (given["until_empty"] or sys.stderr.isatty())
    with _progress(wanted=wanted) as progress:
        _loop_run(run_processor(lines, options, announce=note, progress=progress))


@contextlib.contextmanager
def _progress(*, wanted: bool = True) -> Iterator[Progress | None]:
    if not wanted:
        yield None
        return
    from azbatchwrap.progress import for_stream

    with for_stream(sys.stderr) as progress:
        yield progress


@processor.command(epilog="\b\nExample:\n  azbatchwrap processor top http://127.0.0.1:8081")
@click.argument("url", metavar="URL", default="http://127.0.0.1:8081")
@click.option("--interval", type=click.FloatRange(min=0.1), default=1.0, show_default=True, metavar="SECONDS")
@click.option("--once", is_flag=True, help="One look, then end.")
@json_option
def top(url: str, interval: float, once: bool, as_json: bool) -> None:
    """Watch a processor that was started with --port."""
    from azbatchwrap.processor.top import Screen, look

    facts, screen = look(url), Screen()
    if as_json:
        print_json(facts)
        return
    if once or not sys.stdout.isatty():
        print_table(("what", "now", "more"), screen.rows(facts))
        return
    from rich.live import Live

    with Live(screen.table(facts), auto_refresh=False, screen=True) as live:
        while True:
            time.sleep(interval)
            live.update(screen.table(look(url)), refresh=True)


@processor.command("batch-file", epilog="\b\nExample:\n  azbatchwrap processor batch-file --queue sqlite:///q.sqlite "
                   "in.jsonl --output out.jsonl --errors errors.jsonl")  # fmt: skip
@queue_options
@click.argument("source", type=click.Path(path_type=Path, dir_okay=False, exists=True), metavar="IN.jsonl")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The output file.")
@click.option("--errors", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The error file.")
@click.option("--window", type=float, default=86_400.0, show_default=True, metavar="SECONDS",
              help="What is not answered by then expires.")  # fmt: skip
@click.option("--timeout", type=float, metavar="SECONDS", help="Give up waiting after this long.")
@json_option
def batch_file(url: str, redis_password_file: Path | None, *, as_json: bool, **given: Any) -> None:
    """Bring an OpenAI batch file through a queue that a processor works on; goes on where it was interrupted."""
    from azbatchwrap.processor.batch_file import run_batch_file

    with _progress() as progress:
        written = on_queue(url, redis_password_file, lambda queue: run_batch_file(queue, progress=progress, **given))
    if as_json:
        print_json({"completed": written.completed, "failed": written.failed, "expired": written.expired})
    else:
        note(f"{written.completed} completed, {written.failed} failed ({written.expired} of them expired)")
    if written.failed:
        raise click.exceptions.Exit(1)


@processor.command("on-pool", context_settings={"ignore_unknown_options": True}, epilog="\b\nExample:\n"
                   "  azbatchwrap processor on-pool --workers 4 -- --queue redis://10.0.0.4:6379/0 --until-empty "
                   "--endpoint http://10.0.0.5:8000/v1/completions")  # fmt: skip
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Tasks, each a processor.")
@click.option("--pool", "pool_id", metavar="ID", help="Use this pool (default: make one with a node per worker).")
@click.option("--interpreter", metavar="PATH", help="A Python on the nodes that has azbatchwrap (default: install it).")
@click.option("--wait", is_flag=True, help="Until all of them have ended.")
@click.argument("words", nargs=-1, required=True, metavar="-- WORDS OF run...")
def on_pool(workers: int, pool_id: str | None, interpreter: str | None, wait: bool, words: tuple[str, ...]) -> None:
    """Run processors as tasks on an Azure Batch pool."""
    from azbatchwrap.cli.opening import open_batch
    from azbatchwrap.processor.on_pool import PoolWorkers, start_workers

    with open_batch() as batch:
        job_id = start_workers(batch, PoolWorkers(words, workers, interpreter), pool_id)
        click.echo(job_id)
        if wait:
            batch.wait_for_tasks(job_id)
            failed = [result for result in batch.get_results(job_id) if result.state != "succeeded"]
            for result in failed:
                note(f"{result.task_id}: {result.error.message if result.error else result.state}")
            if failed:
                raise click.exceptions.Exit(1)


def _lines(given: dict[str, Any]) -> list[Line]:
    from urllib.parse import parse_qs

    from azbatchwrap.errors import ConfigurationError
    from azbatchwrap.processor.message import Reader
    from azbatchwrap.processor.run import Line
    from azbatchwrap.queues import Policy

    policy = Policy(max_crashes=given["max_crashes"])
    if given["implementation"]:
        if given["urls"]:
            raise click.UsageError("--message-queue-impl and --queue exclude each other.")
        return [Line(queue) for queue in _channels(given, policy)]
    if not given["urls"]:
        raise click.UsageError("Missing option '--queue' (or '--message-queue-impl').")
    lines = []
    for text in given["urls"]:
        url, _, fragment = text.partition("#")
        place = parse_qs(fragment)
        try:
            weight, tier = float(place.get("weight", ["1"])[0]), int(place.get("tier", ["0"])[0])
        except ValueError as error:
            raise ConfigurationError(f"the place of a queue is #weight=NUMBER&tier=NUMBER, not #{fragment}") from error
        lines.append(Line(open_url(url, given["redis_password_file"], policy, Reader()), weight, tier))
    return lines


def _channels(given: dict[str, Any], policy: Any) -> list[Queue]:
    from azbatchwrap.processor.message import Reader
    from azbatchwrap.queues.redis_channels import RedisChannelsQueue

    names = list(dict.fromkeys(given["requests"]))
    password = _password(given["redis_password_file"])
    return [
        RedisChannelsQueue(
            given["redis_url"],
            Reader(),
            requests=name,
            retries=given["retries"] if len(names) == 1 else f"{given['retries']}:{name}",
            results=given["results"],
            policy=policy,
            password=None if password is None else password.reveal(),
        )
        for name in names
    ]


def _run_options(given: dict[str, Any]) -> RunOptions:
    from azbatchwrap.config import data_folder
    from azbatchwrap.processor.gates import gate_from_text
    from azbatchwrap.processor.run import RunOptions
    from azbatchwrap.processor.sending import SendOptions
    from azbatchwrap.processor.worker import WorkerOptions, retry_policy

    backoff = retry_policy(given["retry"], given["retry_base"], given["retry_cap"])
    return RunOptions(
        endpoints=given["endpoints"],
        spool=data_folder() / "processor" / "spool",
        worker=WorkerOptions(
            given["concurrency"], backoff, given["max_failures"], given["drain_timeout"], given["until_empty"]
        ),
        send=SendOptions(given["request_timeout"], given["objective"], tls=_trusting(given["tls_ca_cert"])),
        credentials=_credentials(given),
        gates=[gate_from_text(text) for text in given["gates"]],
        merge=given["merge"],
        lease=given["lease"],
        serve=_serve_options(given),
    )


def _trusting(authority: Path | None) -> Any:
    import ssl

    from azbatchwrap.errors import ConfigurationError

    if authority is None:
        return None
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(authority)
    except (ssl.SSLError, OSError) as error:
        raise ConfigurationError(f"{authority} holds no certificates: {error}") from error
    return context


def _serve_options(given: dict[str, Any]) -> Any:
    from azbatchwrap.processor.server import ServeOptions

    if given["port"] is None:
        if given["openai_folder"] is not None:
            raise click.UsageError("--openai needs --port.")
        return None
    return ServeOptions(given["host"], given["port"], given["openai_folder"], _password(given["api_key_file"]))


def _credentials(given: dict[str, Any]) -> Any:
    from azbatchwrap.processor import credentials

    kinds = {
        "token_file": credentials.TokenFile, "token_command": credentials.TokenCommand,
        "azure_scope": credentials.AzureIdentity,
    }  # fmt: skip
    chosen = [name for name in kinds if given[name]]
    if len(chosen) > 1:
        raise click.UsageError("--token-file, --token-command and --azure-scope exclude each other.")
    return kinds[chosen[0]](given[chosen[0]]) if chosen else None


def open_url(url: str, password: Path | None, policy: Any = None, reader: Any = None) -> Queue:
    """The queue at ``url``, not opened yet."""
    from azbatchwrap.processor.message import Reader
    from azbatchwrap.queues import queue_from_url

    return queue_from_url(
        url, reader or Reader(), policy=policy, redis_password=_password(password), settings=load_settings
    )


def on_queue(url: str, password: Path | None, work: Callable[[Queue], Awaitable[T]]) -> T:
    """What ``work`` gives for the queue at ``url``."""

    async def opened() -> T:
        async with open_url(url, password) as queue:
            return await work(queue)

    return asyncio.run(opened())


def _loop_run(work: Any) -> None:
    try:
        import uvloop
    except ModuleNotFoundError:  # not made for Windows
        asyncio.run(work)
    else:
        uvloop.run(work)


def _password(file: Path | None) -> Any:
    from azbatchwrap.config import Secret

    return None if file is None else Secret(file.read_text().strip())


def _letter(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id, "reason": letter.reason, "since": _time(letter.at), "deadline": _time(letter.deadline),
        "body": letter.body.decode(errors="backslashreplace"), "meta": json.loads(letter.meta or b"{}"),
        "history": letter.history,
    }  # fmt: skip


def _time(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
    except (OverflowError, ValueError):
        return f"{seconds:g}"
