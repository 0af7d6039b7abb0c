"""Fixtures of the whole suite: real servers, each in its own folder on free ports."""

from __future__ import annotations

pytest_plugins = [
    "tests.fixtures_service",
    "tests.fixtures_stack",
    "tests.fixtures_processor",
    "tests.fixtures_aml",
    "tests.fixtures_speech",
    "tests.fixtures_podman",
    "tests.fixtures_browser",
]
