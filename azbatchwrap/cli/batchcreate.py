"""The command `batchcreate`: an Azure Machine Learning batch-scoring service, planned, made, used and removed.

Exit codes, as Terraform's: 0 done, 1 any error, 2 only for ``--detailed-exitcode`` with changes; 130 interrupted.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from azbatchwrap.cli.main import version_option
from azbatchwrap.cli.output import note, print_facts, print_json, writing
from azbatchwrap.errors import AzBatchWrapError, ConfigurationError

if TYPE_CHECKING:
    from azbatchwrap.pipelines.context import Context
    from azbatchwrap.pipelines.jobs import JobStatus
    from azbatchwrap.pipelines.plan import Change, Plan
    from azbatchwrap.pipelines.runlog import RunLog
    from azbatchwrap.pipelines.settings import Settings

CHANGES, FAILED, INTERRUPTED = 2, 1, 130
#: Longer values are cut in a plan for people; the JSON has them whole.
SHOWN = 60

_SIGNS = {
    "create": ("+", "green"), "update": ("~", "yellow"), "replace": ("-/+", "red"), "delete": ("-", "red"),
    "no change": ("=", ""), "unknown": ("?", ""),
}  # fmt: skip
_Command = TypeVar("_Command", bound=Callable[..., Any])

EXAMPLES = """\b
Examples:
  batchcreate plan --config batchconfiguration.json
  batchcreate apply --config batchconfiguration.json --yes
  batchcreate invoke --config batchconfiguration.json --wait --download out
  batchcreate -config batchconfiguration.json        plan and apply at once
  batchcreate -subid ID -workspace scoring -batch_vm_max 4
"""


@click.group(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@version_option
@click.option("-v", "--verbose", is_flag=True, help="Say what is sent.")
def cli(verbose: bool) -> None:
    """Azure Machine Learning batch scoring, from the resource group to the endpoint: found, or made.

    Running it again changes nothing but what differs from the configuration.
    """
    import logging

    logging.getLogger().addHandler(logging.StreamHandler() if verbose else logging.NullHandler())
    if verbose:
        logging.getLogger("azure.core.pipeline").setLevel(logging.INFO)


def _configured(command: _Command) -> _Command:
    """The configuration that a command works on."""
    command = click.option(
        "--set", "pairs", multiple=True, metavar="KEY=VALUE", help="A key of the configuration; wins over the file."
    )(command)
    return click.option(
        "--config", "file", type=click.Path(dir_okay=False, path_type=Path), help="Configuration: JSON or YAML."
    )(command)


def _json_option(command: _Command) -> _Command:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def _detailed_option(command: _Command) -> _Command:
    return click.option("--detailed-exitcode", "detailed", is_flag=True, help="Exit with 2 when there are changes.")(
        command
    )


def _yes_option(command: _Command) -> _Command:
    return click.option("--yes", "-y", is_flag=True, help="Do not ask.")(command)


def _log_option(command: _Command) -> _Command:
    return click.option(
        "--log", "log_file", type=click.Path(dir_okay=False, path_type=Path), help="Where the run's JSON log goes."
    )(command)


def _patience_option(command: _Command) -> _Command:
    return click.option(
        "--timeout",
        "patience",
        type=click.FloatRange(0, min_open=True),
        metavar="SECONDS",
        help="How long one resource may take (default: an hour); the service goes on by itself.",
    )(command)


def _adopt_option(command: _Command) -> _Command:
    return click.option("--adopt", is_flag=True, help="Take over resources that batchcreate did not make.")(command)


def _settings(file: Path | None, pairs: Sequence[str]) -> Settings:
    from azbatchwrap.pipelines import settings

    given = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ConfigurationError(f"--set takes KEY=VALUE, not {pair!r}")
        given[name.strip()] = value
    _refuse_unknown(given)
    return settings.load(file, flags=given, environment=os.environ)


def _refuse_unknown(given: Mapping[str, str]) -> None:
    import difflib

    from azbatchwrap.pipelines.keys import BY_NAME

    unknown = [name for name in given if name not in BY_NAME]
    if unknown:
        near = difflib.get_close_matches(unknown[0], BY_NAME, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(BY_NAME)}"
        raise ConfigurationError(f"there is no key {unknown[0]}{hint}")


@contextlib.contextmanager
def _connected(settings: Settings, patience: float | None = None) -> Iterator[Context]:
    from azbatchwrap.pipelines import context

    found = context.connect(settings, os.environ)
    if patience is not None:
        found.arm.operation_timeout = patience
    try:
        yield found
    finally:
        found.close()


@cli.command()
@_configured
@_detailed_option
@_adopt_option
@click.option("--offline", is_flag=True, help="Say what is wanted, without asking Azure.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Save the plan, for `apply FILE`.")
@_json_option
@click.pass_context
def plan(
    ctx: click.Context,
    file: Path | None,
    pairs: tuple[str, ...],
    *,
    detailed: bool,
    adopt: bool,
    offline: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Show what would be made, changed or replaced. Nothing is written.

    \b
    Example:
      batchcreate plan --config batchconfiguration.json --detailed-exitcode
    """
    made = _plan_offline(_settings(file, pairs)) if offline else _plan_online(_settings(file, pairs), adopt=adopt)
    if out is not None:
        _save(out, made.record() | {"adopt": adopt})
    if as_json:
        print_json(made.record())
    else:
        _show_plan(made)
        if out is not None:
            note(f"saved: batchcreate apply {out}")
    ctx.exit(CHANGES if detailed and made.has_changes else 0)


def _plan_offline(settings: Settings) -> Plan:
    from azbatchwrap.config.cloud import Cloud
    from azbatchwrap.pipelines import assets, plan
    from azbatchwrap.pipelines.arm import Arm
    from azbatchwrap.pipelines.context import Context
    from azbatchwrap.pipelines.credentials import Nobody

    return plan.make_offline(Context(settings, assets.read(settings), Arm(Cloud(), Nobody())))


def _plan_online(settings: Settings, *, adopt: bool) -> Plan:
    from azbatchwrap.pipelines import plan

    with _connected(settings) as context:
        return plan.make(context, adopt=adopt)


def _save(path: Path, content: object) -> None:
    beside = path.with_name(f"{path.name}.part")
    with writing(path):
        beside.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        beside.replace(path)


def _show_plan(made: Plan) -> None:
    for change in made.changes:
        if change.action.value != "no change" or change.note:
            _show_change(change)
    counts = {name: number for name, number in made.counts().items() if number}
    click.echo("plan: " + (", ".join(f"{number} {name}" for name, number in counts.items()) or "nothing"))


def _show_change(change: Change) -> None:
    sign, colour = _SIGNS[change.action.value]
    click.echo(
        click.style(f"{sign:>3} ", fg=colour or None)
        + f"{change.action.value:<9} {change.key}  {change.label}"
        + (f"  ({change.note})" if change.note else "")
    )
    if change.action.value in {"update", "replace"}:
        for each in change.differences:
            mark = "  # forces a replacement" if each.forces_replacement else ""
            click.echo(f"        {each.path}: {_shown(each.before)} -> {_shown(each.after)}{mark}")


def _shown(value: object) -> str:
    text = "(none)" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[:12]}…{text[-SHOWN + 13 :]}"


@cli.command()
@click.argument("plan_file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@_configured
@_yes_option
@click.option("--allow-replace", is_flag=True, help="Remove and make again what cannot be changed.")
@_adopt_option
@_patience_option
@_log_option
@_json_option
def apply(
    plan_file: Path | None,
    file: Path | None,
    pairs: tuple[str, ...],
    *,
    yes: bool,
    allow_replace: bool,
    adopt: bool,
    patience: float | None,
    log_file: Path | None,
    as_json: bool,
) -> None:
    """Make what is there as the configuration wants it, or exactly what a saved plan says.

    \b
    Examples:
      batchcreate apply --config batchconfiguration.json --yes
      batchcreate apply saved-plan.json
    """
    if plan_file is None:
        how = _How(yes, allow_replace, adopt, patience, log_file, as_json)
        _apply(_settings(file, pairs), None, how)
        return
    if file is not None or pairs:
        raise ConfigurationError("a saved plan has its configuration in it: leave --config and --set out")
    from azbatchwrap.pipelines import plan, settings

    record = settings.read_file(plan_file)
    saved = plan.load(record, str(plan_file))
    # Whoever saved a plan and names it here has looked at it.
    how = _How(True, allow_replace, bool(record.get("adopt")), patience, log_file, as_json)
    _apply(settings.from_values(saved.settings, f"plan: {plan_file}"), saved, how)


@dataclass(frozen=True, slots=True)
class _How:
    """The options of an apply. ``patience`` is seconds for one resource."""

    yes: bool = True
    allow_replace: bool = False
    adopt: bool = False
    patience: float | None = None
    log_file: Path | None = None
    as_json: bool = False


def _apply(settings: Settings, saved: Plan | None, how: _How) -> None:
    from azbatchwrap.pipelines import apply, jobs, plan

    with _connected(settings, how.patience) as context, _progress() as progress:
        progress.message(f"looking at the resource group {settings.resource_group} …")
        made = plan.make(context, adopt=how.adopt)
        if saved is not None:
            plan.check_still_valid(saved, made)
        if not how.as_json:
            _show_plan(made)
        if made.has_changes:
            _confirm("Apply these changes?", yes=how.yes)
        with _logged("apply", settings, how.log_file) as log:
            log.progress = progress
            apply.apply(context, made, log, allow_replace=how.allow_replace)
            facts = jobs.outputs(context)
            log.info |= facts
    if how.as_json:
        print_json({"counts": made.counts(), "steps": log.steps, "outputs": facts, "log": str(log.file)})
    else:
        shown = ("endpoint", "scoring_uri", "deployment", "component_version", "model_version")
        print_facts({name: facts[name] for name in shown if facts[name] is not None})
        note(f"log: {log.file}")


@contextlib.contextmanager
def _progress() -> Iterator[Any]:
    from azbatchwrap.progress import LineProgress

    yield LineProgress(sys.stderr)


@contextlib.contextmanager
def _logged(command: str, settings: Settings, file: Path | None) -> Iterator[RunLog]:
    """A log of the run that says how it ended, whatever happens."""
    from azbatchwrap.config import data_folder
    from azbatchwrap.pipelines.runlog import RunLog

    if file is None:
        stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        file = data_folder() / "batchcreate" / f"{stamp}-{command}.json"
    log = RunLog(command, settings.values(), file)
    try:
        yield log
    except KeyboardInterrupt:
        log.finish("interrupted")
        raise
    except Exception as error:
        log.finish("failed", error=str(error))
        note(f"log: {file}")
        raise
    log.finish("done")


def _confirm(question: str, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigurationError(f"{question} Nobody can be asked here: use --yes")
    if not click.confirm(question, err=True):
        note("nothing was done")
        raise click.exceptions.Exit(FAILED)


@cli.command()
@_configured
@_detailed_option
@_json_option
@click.pass_context
def drift(ctx: click.Context, file: Path | None, pairs: tuple[str, ...], *, detailed: bool, as_json: bool) -> None:
    """Show what somebody changed in Azure since the last apply. Local edits do not count.

    \b
    Example:
      batchcreate drift --config batchconfiguration.json --detailed-exitcode
    """
    from azbatchwrap.pipelines import record, steps

    with _connected(_settings(file, pairs)) as context:
        found = record.drift(context, steps.all_steps(context))
    if found is None:
        raise ConfigurationError("nothing was applied with this configuration yet")
    drifted = [change for change in found if change.action.is_change]
    if as_json:
        print_json({"has_drift": bool(drifted), "changes": [change.record() for change in found]})
    else:
        for change in drifted:
            _show_change(change)
        click.echo(f"drift: {len(drifted)} of {len(found)} resources changed since the last apply")
    ctx.exit(CHANGES if detailed and drifted else 0)


@cli.command()
@_configured
@_yes_option
@click.option("--purge", is_flag=True, help="For good: no recovery of the workspace and its key vault.")
@click.option("--keep", multiple=True, metavar="RESOURCE", help="A kind or resource that stays, with what it needs.")
@_patience_option
@_log_option
@_json_option
def destroy(
    file: Path | None,
    pairs: tuple[str, ...],
    *,
    yes: bool,
    purge: bool,
    keep: tuple[str, ...],
    patience: float | None,
    log_file: Path | None,
    as_json: bool,
) -> None:
    """Remove what batchcreate made, results included. What others made stays.

    \b
    Examples:
      batchcreate destroy --config batchconfiguration.json --yes --purge
      batchcreate destroy --config batchconfiguration.json --keep workspace
    """
    from azbatchwrap.pipelines import destroy as destruction

    settings = _settings(file, pairs)
    with _connected(settings, patience) as context, _progress() as progress:
        found = destruction.make(context, keep)
        if not as_json:
            for key, label in found.going:
                click.echo(click.style("  - ", fg="red") + f"{key}  {label}")
            for key, reason in found.staying:
                click.echo(f"    {key} stays ({reason})")
        if found.steps:
            _confirm(f"Remove these {len(found.going)} resources?", yes=yes)
        with _logged("destroy", settings, log_file) as log:
            log.progress = progress
            left = destruction.destroy(context, found, log, purge=purge)
    if as_json:
        staying = [{"resource": key, "reason": reason} for key, reason in found.staying]
        print_json({"removed": [key for key, _ in found.going], "staying": staying, "left": left, "steps": log.steps})
        return
    for each in left:
        note(f"the resource group stays: it still holds {each}")
    click.echo(f"removed {len(found.going)} resources" if found.going else "there is nothing of ours to remove")


@cli.command()
@_configured
@_json_option
def outputs(file: Path | None, pairs: tuple[str, ...], *, as_json: bool) -> None:
    """Print the endpoint's address and the names and versions of what is deployed.

    \b
    Example:
      batchcreate outputs --config batchconfiguration.json --json
    """
    from azbatchwrap.pipelines import jobs

    with _connected(_settings(file, pairs)) as context:
        facts = jobs.outputs(context)
    (print_json if as_json else print_facts)(facts)


@cli.command()
@_configured
@click.option(
    "--input", "given", metavar="INPUT", help="A local file or folder, or an address in Azure (default: data)."
)
@click.option("--wait", "waits", is_flag=True, help="Wait until the job is over; exit with 1 when it failed.")
@click.option("--timeout", type=click.FloatRange(0), metavar="SECONDS", help="Wait no longer; the job goes on.")
@click.option(
    "--download", type=click.Path(file_okay=False, path_type=Path), help="Bring the results into this folder."
)
@_json_option
@click.pass_context
def invoke(
    ctx: click.Context,
    file: Path | None,
    pairs: tuple[str, ...],
    *,
    given: str | None,
    waits: bool,
    timeout: float | None,
    download: Path | None,
    as_json: bool,
) -> None:
    """Score: start a job on the endpoint.

    \b
    Examples:
      batchcreate invoke --config batchconfiguration.json --wait --download out
      batchcreate invoke --config batchconfiguration.json --input more.txt
    """
    from azbatchwrap.pipelines import jobs

    with _connected(_settings(file, pairs)) as context:
        name = jobs.invoke(context, given)
        note(f"job {name}")
        if not waits and download is None:
            print_json({"job": name}) if as_json else click.echo(name)
            return
        found = jobs.wait(context, name, timeout=timeout, tell=lambda status: note(f"{name}: {status.state}"))
        _show_end(context, found, download, as_json=as_json)
        ctx.exit(0 if found.is_success else FAILED)


def _show_end(context: Context, found: JobStatus, download: Path | None, *, as_json: bool) -> None:
    """How a job ended: its results, or why it has none."""
    from azbatchwrap.pipelines import jobs

    files = jobs.download(context, found, download) if found.is_success and download is not None else []
    if not found.is_success:
        failure = jobs.failure(context, found.name)
        note(f"the job {found.name} {found.state}: {failure.reason or found.error or 'no reason was given'}")
        for log, text in failure.logs.items():
            note(f"--- {log} ---\n{text.rstrip()}")
    if as_json:
        print_json(found.record() | {"files": [str(path) for path in files]})
    else:
        _show_status(found)
        for path in files:
            click.echo(str(path))


def _show_status(found: JobStatus) -> None:
    print_facts({name: value for name, value in found.record().items() if value not in (None, {})})


@cli.command()
@_configured
@click.argument("job", required=False)
@_json_option
@click.pass_context
def status(ctx: click.Context, job: str | None, file: Path | None, pairs: tuple[str, ...], *, as_json: bool) -> None:
    """Say how a job is: started, complete, success, elapsed (default: the endpoint's latest).

    Exit code 1: it is complete, and no success.

    \b
    Example:
      batchcreate status --config batchconfiguration.json
    """
    from azbatchwrap.pipelines import jobs

    with _connected(_settings(file, pairs)) as context:
        found = jobs.status(context, job)
    if as_json:
        print_json(found.record())
    else:
        _show_status(found)
    ctx.exit(FAILED if found.is_complete and not found.is_success else 0)


@cli.group()
def config() -> None:
    """Check and explain the configuration, or start a new one. Azure is not asked."""


@config.command()
@_configured
@_json_option
def check(file: Path | None, pairs: tuple[str, ...], *, as_json: bool) -> None:
    """Name every fault of the configuration and of the files that it names.

    \b
    Example:
      batchcreate config check --config batchconfiguration.json
    """
    from azbatchwrap.pipelines import assets

    settings = _settings(file, pairs)
    found = assets.read(settings)
    facts = {
        "data": f"{settings.data} ({len(found.data.hashes)} files)",
        "code": f"{settings.score_script.parent} ({len(found.code.hashes)} files)",
        "model": f"{settings.model} ({len(found.model.hashes)} files)" if found.model else None,
    }
    if as_json:
        print_json({"valid": True, **facts})
    else:
        print_facts(facts)
        click.echo("the configuration is valid")


@config.command()
@_configured
@_json_option
def explain(file: Path | None, pairs: tuple[str, ...], *, as_json: bool) -> None:
    """Show every key with its value and the layer that it came from.

    \b
    Example:
      batchcreate config explain --config batchconfiguration.json
    """
    from azbatchwrap.pipelines.keys import KEYS

    settings = _settings(file, pairs)
    values = settings.values()
    rows = [(key.name, values.get(key.name), settings.sources[key.name], key.help) for key in KEYS]
    if as_json:
        print_json({name: {"value": value, "from": layer} for name, value, layer, _ in rows})
        return
    for name, value, layer, text in rows:
        click.echo(f"{name:<19} {'' if value is None else _shown(value):<45} {layer:<28} {text}")


@config.command()
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
def template(file: Path | None) -> None:
    """Print a configuration to fill in, or write it to FILE.

    \b
    Example:
      batchcreate config template batchconfiguration.json
    """
    from azbatchwrap.pipelines import settings

    if file is None:
        click.echo(settings.template(), nl=False)
    elif file.exists():
        raise ConfigurationError(f"{file} exists already")
    else:
        with writing(file):
            file.write_text(settings.template(), encoding="utf-8")
        note(f"wrote {file}: fill in what stands in <…>")


def _first_form(arguments: Sequence[str]) -> tuple[Path | None, dict[str, str]] | None:
    """``-config FILE``, ``-key value …`` and the bare command, as the first batchcreate took them; else ``None``."""
    if arguments and (
        not arguments[0].startswith("-") or arguments[0] in {"-h", "-v"} or arguments[0].startswith("--")
    ):
        return None
    file: Path | None = None
    given: dict[str, str] = {}
    words = list(arguments)
    while words:
        word = words.pop(0)
        if not word.startswith("-") or not words:
            raise ConfigurationError(f"{word!r}: this form takes -key value pairs (see batchcreate --help)")
        value = words.pop(0)
        if word == "-config":
            file = Path(value)
        else:
            given[word.lstrip("-")] = value
    _refuse_unknown(given)
    return file, given


def _run_first_form(file: Path | None, given: Mapping[str, str]) -> int:
    from azbatchwrap.pipelines import settings

    loaded = settings.load(file, flags=given, environment=os.environ)
    _apply(loaded, None, _How())
    return 0


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Entry point of the console script; ends the process with the command's exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(_run(sys.argv[1:] if arguments is None else arguments))


def _run(arguments: Sequence[str]) -> int:
    try:
        first = _first_form(arguments)
        if first is not None:
            return _run_first_form(*first)
        code: Any = cli.main(args=list(arguments), prog_name="batchcreate", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        error.show()
        return FAILED
    except (KeyboardInterrupt, click.Abort):
        again = "destroy" if "destroy" in arguments else "apply"
        note(f"interrupted: nothing is lost, `batchcreate {again}` goes on from what is there")
        return INTERRUPTED
    except (AzBatchWrapError, OSError) as error:
        note(f"error: {error}")
        return FAILED


if __name__ == "__main__":
    main()
