"""`run-batch-client --on-pool`: shards as tasks of the local Azure Batch service."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from azbatchwrap import AzureBatch, AzureBatchStorage
from azbatchwrap.batch.own_wheel import build_wheel
from azbatchwrap.speechkit import Wishes
from azbatchwrap.speechkit.on_pool import PACKAGES, divide
from azbatchwrap.speechkit.processor import SpeechItem
from tests.fixtures_speech import Standin, tone, write_wave
from tests.fixtures_stack import LocalStack
from tests.speechkit.conftest import Place

POOL = "speech"


@pytest.fixture
def pool(local_stack: LocalStack) -> Iterator[str]:
    """A pool of one node that runs two tasks at once: packages are installed once per node."""
    with AzureBatchStorage(local_stack.settings()) as storage, AzureBatch(storage) as batch:
        batch.create_pool(pool_id=POOL, node_count=1, slots_per_node=2)
        try:
            yield POOL
        finally:
            batch.delete_pool(POOL)


def item(seconds: float | None) -> SpeechItem:
    path = Path("a.wav")
    return SpeechItem(id="a", path=path, result=path, wishes=Wishes(), seconds=seconds, output_folder=path)


def test_shards_get_about_the_same_length_of_sound() -> None:
    shards = divide([item(seconds) for seconds in (100, 10, 20, 30, 40, None)], 2)
    lengths = [sum(one.seconds or 0.0 for one in shard.items) for shard in shards]
    assert sorted(lengths) == [100.0, 100.0]
    assert [shard.id for shard in shards] == ["shard-0001", "shard-0002"]


def test_there_are_no_empty_shards() -> None:
    assert [len(shard.items) for shard in divide([item(1.0)], 5)] == [1]
    assert divide([], 3) == []


def test_the_wheel_asks_for_what_the_client_needs(tmp_path: Path) -> None:
    name, content = build_wheel(PACKAGES)
    assert (name, content) == build_wheel(PACKAGES), "the same package, the same bytes"
    with zipfile.ZipFile(BytesIO(content)) as archive:
        names = set(archive.namelist())
        assert {"azbatchwrap/cli/speech.py", "azbatchwrap/batchkit/client.py"} <= names
        (description,) = [archive.read(name).decode() for name in names if name.endswith("METADATA")]
    assert "Requires-Dist: aiohttp" in description
    assert "extra ==" not in description
    assert "azure" not in description.replace("azbatchwrap", "")
    (tmp_path / name).write_bytes(content)
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(tmp_path / "made")]
    done = subprocess.run([*command, str(tmp_path / name)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "made" / "azbatchwrap" / "speechkit" / "shard.py").exists()


def test_shards_run_on_nodes_and_their_summaries_are_merged(
    place: Place, standin: Standin, local_stack: LocalStack, pool: str
) -> None:
    for name in ("a.wav", "b c.wav", "deep/ü.wav"):
        write_wave(place.sounds / name, tone(0.4))
    (place.sounds / "bad.wav").write_bytes(b"garbage")
    place.configure(A=standin.entry(api="fast", concurrency=4))
    flags = ("--on-pool", pool, "--shards", "2", "-log_folder", str(place.logs), "-combined_json")
    done = place.run(*flags, **local_stack.environment)
    assert done.returncode == 1, done.stderr
    assert place.stats() == {
        "passed": 3, "failed": 1, "in_retry": 0, "queued": 0, "running": 0, "cached": 0, "total": 4,
    }  # fmt: skip
    entries = place.entries()
    assert entries["bad.wav"]["error_type"] == "InvalidAudioFormatError"
    assert {entry["thread"] for entry in entries.values()} == {"shard-0001", "shard-0002"}
    assert place.result("deep/ü_wav.json")["AudioFileUrl"] == str(place.sounds / "deep" / "ü.wav")
    assert {path.name for path in place.logs.iterdir()} == {"shard-0001", "shard-0002"}
    whole = json.loads((place.results / "results.json").read_text())["AudioFileResults"]
    assert len(whole) == 3

    (place.sounds / "bad.wav").unlink()
    again = place.run(*flags, **local_stack.environment)
    assert again.returncode == 0, again.stderr
    assert (place.stats()["passed"], place.stats()["cached"]) == (3, 3)


def test_keys_do_not_go_to_nodes(place: Place, local_stack: LocalStack) -> None:
    write_wave(place.sounds / "a.wav", tone(0.4))
    place.configure(A={"subscription": "a-very-secret-key"})
    done = place.run("--on-pool", "any", **local_stack.environment)
    assert done.returncode == 2
    assert "no key goes to nodes" in done.stderr
    assert "a-very-secret-key" not in done.stderr
