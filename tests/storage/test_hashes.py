from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from azbatchwrap.storage.hashes import HashCache, Stamp


def stamp(size: int = 3, mtime_ns: int = 10**18, inode: int = 7) -> Stamp:
    return Stamp(size, mtime_ns, inode)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "hashes.sqlite"


def test_what_was_learned_is_known_in_the_next_run(file: Path) -> None:
    first = HashCache(file)
    first.learn(Path("/a"), stamp(), "abc")
    first.save()
    first.close()
    second = HashCache(file)
    assert second.known(Path("/a"), stamp()) == "abc"
    second.close()


@pytest.mark.parametrize("other", [stamp(size=4), stamp(mtime_ns=10**18 + 1), stamp(inode=8)])
def test_a_file_that_changed_is_not_known(file: Path, other: Stamp) -> None:
    cache = HashCache(file)
    cache.learn(Path("/a"), stamp(), "abc")
    cache.save()
    assert cache.known(Path("/a"), other) is None
    cache.close()


def test_a_file_written_just_now_is_not_learned(file: Path, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    fresh.write_text("x")
    cache = HashCache(file)
    cache.learn(fresh, Stamp.of(fresh.stat()), "abc")
    cache.save()
    assert cache.known(fresh, Stamp.of(fresh.stat())) is None
    cache.close()


def test_a_name_that_is_not_utf8(file: Path) -> None:
    path = Path(os.fsdecode(b"/caf\xe9"))
    cache = HashCache(file)
    cache.learn(path, stamp(), "abc")
    cache.save()
    assert cache.known(path, stamp()) == "abc"
    cache.close()


def test_a_damaged_cache_is_made_anew(file: Path) -> None:
    file.parent.mkdir()
    file.write_bytes(b"this is no database" * 100)
    cache = HashCache(file)
    cache.learn(Path("/a"), stamp(), "abc")
    cache.save()
    assert cache.known(Path("/a"), stamp()) == "abc"
    cache.close()


def test_where_no_cache_can_be_made_nothing_is_known(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = HashCache(tmp_path / "file" / "hashes.sqlite")
    cache.learn(Path("/a"), stamp(), "abc")
    cache.save()
    assert cache.known(Path("/a"), stamp()) is None
    cache.close()


def test_two_processes_write_at_once(file: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from azbatchwrap.storage.hashes import HashCache, Stamp\n"
        "for n in range(30):\n"
        "    cache = HashCache(Path(sys.argv[1]))\n"
        "    cache.learn(Path(f'/{sys.argv[2]}/{n}'), Stamp(1, 1, 1), 'x'); cache.save(); cache.close()\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(file), who]) for who in ("a", "b")]
    assert [process.wait(timeout=60) for process in running] == [0, 0]
    cache = HashCache(file)
    assert all(cache.known(Path(f"/{who}/{n}"), Stamp(1, 1, 1)) == "x" for who in "ab" for n in range(30))
    cache.close()
