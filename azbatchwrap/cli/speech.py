"""`run-batch-client`: transcribes many sound files on many speech containers, with the public Speech Batch Kit's flags.

argparse, not click: ``-language`` takes several values, and the long flags have one dash.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from azbatchwrap.batchkit import Counts
    from azbatchwrap.batchkit.options import RunOptions
    from azbatchwrap.speechkit import SpeechConfig

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
EXAMPLE = """
example:
  run-batch-client -config config.yaml -input_folder audio -output_folder transcripts -log_folder logs

config.yaml:
  MyContainer1: {host: 192.168.0.100, port: 5000, concurrency: 5, rtf: 3}
  MyContainer2: {host: localhost, port: 6001, api: fast}

exit codes: 0 every file is transcribed, 1 some failed, 2 wrong use or configuration, 130 interrupted
"""


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Defaults in the help, and the example as it is written."""


class _ShowVersion(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        from azbatchwrap.cli.main import version_line

        print(version_line())
        parser.exit()


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive whole number")
    return value


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 65_535:
        raise argparse.ArgumentTypeError(f"{text} is no port: 0 to 65535")
    return value


def build_parser() -> argparse.ArgumentParser:
    """The flags of the public kit with their defaults, then our own."""
    parser = argparse.ArgumentParser(
        prog="run-batch-client",
        description="Transcribe sound files on speech containers and cloud endpoints.",
        epilog=EXAMPLE,
        formatter_class=_Formatter,
    )
    _add_places(parser)
    _add_run(parser)
    _add_wishes(parser)
    _add_ours(parser)
    return parser


def _add_places(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-config", "--configuration-file", "--config", type=Path, default=Path("/usr/local/batch/input/config.yaml"),
        metavar="FILE", help="endpoints, in YAML or JSON; watched while the client runs")  # fmt: skip
    add("-input_folder", "--input-folder", type=Path, default=Path("/usr/local/batch/input"), metavar="FOLDER",
        help="sound files, also in folders below (ONESHOT, DAEMON)")  # fmt: skip
    add("-output_folder", "--output-folder", type=Path, default=Path("/usr/local/batch/output"), metavar="FOLDER",
        help="results and run_summary.json")  # fmt: skip
    add("-log_folder", "--log-folder", type=Path, metavar="FOLDER", help="run.log and a log of the Speech SDK per file")
    add("-scratch_folder", "--scratch-folder", type=Path, metavar="FOLDER",
        help="submitted batches (REST) and files being converted; else in the output folder")  # fmt: skip
    add("-input_list", "--input-list", type=Path, metavar="FILE",
        help="transcribe the files named here, one per line, not the whole input folder (ONESHOT)")  # fmt: skip


def _add_run(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-m", "--run-mode", type=str.upper, default="ONESHOT", choices=["ONESHOT", "DAEMON", "REST", "APISERVER"],
        help="transcribe what is there; go on with what arrives; or take batches over HTTP")  # fmt: skip
    add("-console_log_level", "--console-log-level", choices=LEVELS, default="INFO", help="log on standard error")
    add("-file_log_level", "--file-log-level", choices=LEVELS, default="DEBUG", help="log in run.log")
    add("-strict_config", "--strict-configuration-validation", action="store_true",
        help="refuse a configuration with any wrong entry, instead of leaving the entry out")  # fmt: skip
    add("-port", "--apiserver_port", type=_port, default=5000, help="where the REST mode listens; 0 takes a free one")
    add("-poll", "--poll", action="store_true", help="look into the input folder regularly: for network folders")
    add("-combined_json", "--store-combined-json", action="store_true", help="also write results.json with all results")
    add("-debug_loop_interval", "--debug-loop-interval", type=int, default=0, metavar="SECONDS",
        help="accepted for old scripts: the state is always in run_summary.json and on the REST mode's pages")  # fmt: skip


def _add_wishes(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-language", "--language", nargs="+", default=["en-US"], metavar="LANGUAGE",
        help="with several, endpoints whose language is 'lid' find out what is spoken")  # fmt: skip
    add("-nbest", "--nbest", type=_positive, default=1, help="readings per phrase")
    add("-diarization", "--diarization-mode", choices=["None", "Identity", "Anonymous"], default="None",
        help="tell speakers apart")  # fmt: skip
    add("-profanity", "--profanity-mode", choices=["Masked", "Raw", "Removed"], default="Masked", help="swear words")
    add("-sentiment", "--enable-sentiment", action="store_true", help="ask for sentiment analysis")
    add("-resume", "--allow-resume", action="store_true",
        help="go on in the middle of files whose transcription failed (results may differ)")  # fmt: skip
    add("-max_segment_length", "--max-segment-length", type=_positive, default=3600, metavar="SECONDS",
        help="with several languages, send sound in pieces of at most this length")  # fmt: skip


def _add_ours(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("beyond the public kit").add_argument
    add("--channels", choices=["separate", "mixed"], default="separate", help="files with several channels")
    add("--host", default="127.0.0.1", help="where the REST mode listens; wider than loopback needs a token")
    add("--token-file", type=Path, metavar="FILE", help="callers of the REST mode have to know what is in here")
    add("--on-pool", metavar="POOL", help="run on the nodes of this Azure Batch pool, which reach the endpoints")
    add("--version", action=_ShowVersion, nargs=0, default=argparse.SUPPRESS, help="show the version")
    add("--shards", type=_positive, default=None, metavar="N", help="tasks to share the files between (with --on-pool)")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Entry point of the console script; ends the process with the run's exit code."""
    from azbatchwrap.cli.main import exit_code_of
    from azbatchwrap.errors import AzBatchWrapError

    try:
        code = _run(arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 128 + signal.SIGINT
    except AzBatchWrapError as error:
        print(f"error: {error}", file=sys.stderr)
        code = exit_code_of(error)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 1
    sys.exit(code)


def _run(words: Sequence[str] | None) -> int:
    parser = build_parser()
    flags = parser.parse_args(words)
    if flags.input_list is not None and flags.run_mode != "ONESHOT":
        parser.error("-input_list goes with -m ONESHOT only")
    if flags.shards is not None and flags.on_pool is None:
        parser.error("--shards goes with --on-pool")
    if flags.on_pool is not None and flags.run_mode != "ONESHOT":
        parser.error("--on-pool goes with -m ONESHOT only")
    return _dispatch(flags) if flags.on_pool is None else _dispatch_on_pool(flags)


def _dispatch(flags: argparse.Namespace) -> int:
    from azbatchwrap.batchkit import Mode, run
    from azbatchwrap.progress import NullProgress, for_stream
    from azbatchwrap.speechkit import SpeechBatchRequest

    config, options = _config(flags), _options(flags)
    # On a terminal, bars take the place of the log unless it was asked for; in a pipe or a container, the log tells.
    console = flags.console_log_level != "INFO" or not sys.stderr.isatty()
    with for_stream(sys.stderr) as drawing:
        progress = NullProgress() if console else drawing
        report = run(SpeechBatchRequest, config, options, progress=progress, console=console, reuse=False)
    _tell(report.counts, config, has_summary=options.mode is not Mode.REST)
    for fault in report.faults:
        print(f"error: {fault}", file=sys.stderr)
    return report.exit_code


def _dispatch_on_pool(flags: argparse.Namespace) -> int:
    from azbatchwrap.batchkit.inbox import list_folder
    from azbatchwrap.cli.opening import open_batch
    from azbatchwrap.endpoints import read_endpoints
    from azbatchwrap.speechkit import SpeechBatchRequest, parser
    from azbatchwrap.speechkit.file_list import read_list
    from azbatchwrap.speechkit.on_pool import run_on_pool

    config = _config(flags)
    strict = flags.strict_configuration_validation
    parse = parser(os.environ, runs_here=False)
    endpoints = read_endpoints(flags.configuration_file, parse=parse, strict=strict)
    if flags.input_list is not None:
        files: Sequence[Path] = read_list(flags.input_list, flags.input_folder)
    else:
        files = list_folder(flags.input_folder, SpeechBatchRequest.is_valid_input_file)
    with open_batch() as batch:
        counts = run_on_pool(batch, flags.on_pool, files, config, endpoints, shards=flags.shards)
    _tell(counts, config)
    return 1 if counts.failed else 0


def _tell(counts: Counts, config: SpeechConfig, *, has_summary: bool = True) -> None:
    """``has_summary``: the run has one, not each of its batches."""
    place = f"; summary in {config.output_folder / 'run_summary.json'}" if has_summary else ""
    print(
        f"{counts.passed} of {counts.total} files transcribed ({counts.cached} by earlier runs), "
        f"{counts.failed} failed{place}"
    )


def _config(flags: argparse.Namespace) -> SpeechConfig:
    from azbatchwrap.speechkit import Channels, Diarization, Profanity, SpeechConfig, Wishes

    wishes = Wishes(
        languages=tuple(flags.language),
        nbest=flags.nbest,
        diarization=Diarization(flags.diarization_mode),
        profanity=Profanity(flags.profanity_mode),
        channels=Channels(flags.channels),
        sentiment=flags.enable_sentiment,
        resume=flags.allow_resume,
        max_segment=flags.max_segment_length,
    )
    return SpeechConfig(
        input_folder=flags.input_folder,
        output_folder=flags.output_folder,
        log_folder=flags.log_folder,
        scratch_folder=flags.scratch_folder,
        shared_folder=flags.output_folder,
        wishes=wishes,
        combine=flags.store_combined_json,
    )


def _options(flags: argparse.Namespace) -> RunOptions:
    from azbatchwrap.batchkit.options import Mode, RunOptions, ServerOptions
    from azbatchwrap.speechkit import parser
    from azbatchwrap.speechkit.file_list import read_list

    token = flags.token_file.read_text(encoding="utf-8").strip() if flags.token_file else None
    return RunOptions(
        mode=Mode.of(flags.run_mode),
        endpoints=flags.configuration_file,
        parse=parser(os.environ),
        strict=flags.strict_configuration_validation,
        files=read_list(flags.input_list, flags.input_folder) if flags.input_list else None,
        poll_only=flags.poll,
        scratch_folder=flags.scratch_folder,
        server=ServerOptions(flags.host, flags.apiserver_port, token),
        console_level=flags.console_log_level,
        file_level=flags.file_log_level,
    )


if __name__ == "__main__":
    main()
