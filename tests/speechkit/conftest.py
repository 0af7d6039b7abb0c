"""A batch of sound files as a folder, and `run-batch-client` run on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

COMMAND = (sys.executable, "-m", "azbatchwrap.cli.speech")


@dataclass(frozen=True)
class Place:
    """Folders of one run. Their names are not what programs like."""

    root: Path

    @property
    def sounds(self) -> Path:
        return self.root / "die Töne"

    @property
    def results(self) -> Path:
        return self.root / "out put"

    @property
    def logs(self) -> Path:
        return self.root / "lo gs"

    @property
    def config(self) -> Path:
        return self.root / "config.json"

    def configure(self, **endpoints: dict[str, object]) -> None:
        """Write the endpoint configuration beside and rename, as editors do."""
        beside = self.config.with_suffix(".new")
        beside.write_text(json.dumps(endpoints))
        beside.replace(self.config)

    def command(self, *flags: str) -> list[str]:
        places = ["-config", self.config, "-input_folder", self.sounds, "-output_folder", self.results]
        return [*COMMAND, *map(str, places), *flags]

    def run(self, *flags: str, timeout: float = 100, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*flags), capture_output=True, text=True, timeout=timeout, check=False,
            env=os.environ | environment,
        )  # fmt: skip

    def start(self, *flags: str) -> subprocess.Popen[str]:
        return subprocess.Popen(self.command(*flags), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def summary(self) -> dict[str, Any]:
        found = json.loads((self.results / "run_summary.json").read_text())
        assert isinstance(found, dict)
        return found

    def stats(self) -> dict[str, int]:
        found = self.summary()["overall_summary"]["file_stats"]
        assert isinstance(found, dict)
        return found

    def entries(self) -> dict[str, dict[str, Any]]:
        """The summary's entries by the files' names below the input folder."""
        return {
            str(Path(entry["filepath"]).relative_to(self.sounds)): entry for entry in self.summary()["processed_files"]
        }

    def result(self, name: str) -> dict[str, Any]:
        """The entry of a result file."""
        (found,) = json.loads((self.results / name).read_text())["AudioFileResults"]
        assert isinstance(found, dict)
        return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    made.sounds.mkdir()
    return made
