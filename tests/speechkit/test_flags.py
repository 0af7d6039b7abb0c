"""The flags of `run-batch-client`: those of the public kit, with its defaults, in both spellings."""

from __future__ import annotations

from pathlib import Path

import pytest

from azbatchwrap.cli.speech import build_parser

DEFAULTS = {
    "configuration_file": Path("/usr/local/batch/input/config.yaml"),
    "input_folder": Path("/usr/local/batch/input"),
    "output_folder": Path("/usr/local/batch/output"),
    "log_folder": None,
    "console_log_level": "INFO",
    "file_log_level": "DEBUG",  # as its page says
    "nbest": 1,
    "store_combined_json": False,
    "input_list": None,
    "run_mode": "ONESHOT",
    "scratch_folder": None,
    "diarization_mode": "None",
    "language": ["en-US"],
    "strict_configuration_validation": False,
    "profanity_mode": "Masked",
    "enable_sentiment": False,
    "allow_resume": False,
    "apiserver_port": 5000,
    "poll": False,
    "max_segment_length": 3600,
    "debug_loop_interval": 0,
}


def test_defaults_are_the_public_kits() -> None:
    flags = vars(build_parser().parse_args([]))
    assert {name: flags[name] for name in DEFAULTS} == DEFAULTS


def test_the_documented_command_is_understood() -> None:
    words = (
        "-config /my_nfs/config.yaml -input_folder /my_nfs/audio_files -output_folder /my_nfs/transcriptions "
        "-log_folder /my_nfs/logs -file_log_level DEBUG -nbest 1 -m ONESHOT -diarization None -language en-US "
        "-strict_config"
    )
    flags = build_parser().parse_args(words.split())
    assert flags.configuration_file == Path("/my_nfs/config.yaml")
    assert (flags.file_log_level, flags.run_mode, flags.diarization_mode) == ("DEBUG", "ONESHOT", "None")
    assert flags.strict_configuration_validation is True


@pytest.mark.parametrize(
    ("short", "long", "value"),
    [
        ("-config", "--configuration-file", "x"), ("-input_folder", "--input-folder", "x"),
        ("-output_folder", "--output-folder", "x"), ("-log_folder", "--log-folder", "x"),
        ("-console_log_level", "--console-log-level", "DEBUG"), ("-file_log_level", "--file-log-level", "ERROR"),
        ("-nbest", "--nbest", "3"), ("-combined_json", "--store-combined-json", None),
        ("-input_list", "--input-list", "x"), ("-m", "--run-mode", "DAEMON"),
        ("-scratch_folder", "--scratch-folder", "x"), ("-diarization", "--diarization-mode", "Identity"),
        ("-language", "--language", "de-DE"), ("-strict_config", "--strict-configuration-validation", None),
        ("-profanity", "--profanity-mode", "Raw"), ("-sentiment", "--enable-sentiment", None),
        ("-resume", "--allow-resume", None), ("-port", "--apiserver_port", "81"), ("-poll", "--poll", None),
        ("-max_segment_length", "--max-segment-length", "60"), ("-debug_loop_interval", "--debug-loop-interval", "5"),
    ],
)  # fmt: skip
def test_both_spellings_mean_the_same(short: str, long: str, value: str | None) -> None:
    words = [] if value is None else [value]
    parser = build_parser()
    given = parser.parse_args([short, *words])
    assert given == parser.parse_args([long, *words])
    assert given != parser.parse_args([])


def test_several_languages_and_both_names_of_the_rest_mode() -> None:
    flags = build_parser().parse_args(["-language", "en-US", "fr-FR", "de-DE", "-m", "rest"])
    assert (flags.language, flags.run_mode) == (["en-US", "fr-FR", "de-DE"], "REST")
    assert build_parser().parse_args(["--run-mode", "APISERVER"]).run_mode == "APISERVER"


@pytest.mark.parametrize("words", [["-nbest", "0"], ["-m", "TWICE"], ["-diarization", "Both"], ["-port", "70000"]])
def test_wrong_values_are_wrong_use(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        build_parser().parse_args(words)
    assert caught.value.code == 2
    assert words[0] in capsys.readouterr().err


def test_help_shows_an_example_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["-h"])
    shown = capsys.readouterr().out
    assert "run-batch-client -config config.yaml" in shown
    assert "(default: 3600)" in shown
