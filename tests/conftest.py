"""Fixtures of the whole suite: real servers, each in its own folder on free ports."""

from __future__ import annotations

import signal

# What a shell starts in the background ignores Ctrl-C, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = [
    "tests.fixtures_service",
    "tests.fixtures_stack",
    "tests.fixtures_processor",
    "tests.fixtures_aml",
    "tests.fixtures_speech",
    "tests.fixtures_podman",
    "tests.fixtures_browser",
]
