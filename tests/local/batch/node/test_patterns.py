from __future__ import annotations

import os
from pathlib import Path

import pytest

from azbatchwrap.local.batch.node import patterns


@pytest.fixture
def working(tmp_path: Path) -> Path:
    wd = tmp_path / "task" / "wd"
    for name in (
        "../stdout.txt", "../stderr.txt", "../.secret.txt", "result.json", ".hidden.txt", "a.txt", "b*.txt",
        "outputs/one.csv", "outputs/deep/er/two.csv", "outputs/.cache/three.csv", "outputs/deep/.four.csv",
        "name with blank.txt", "né\nw.txt",
    ):  # fmt: skip
        path = wd / name
        wd.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    os.mkfifo(wd / "pipe.txt")
    (wd / "outputs" / "loop").symlink_to(wd / "outputs")
    (wd / "link.txt").symlink_to(wd / "a.txt")
    (wd / "dangling.txt").symlink_to(wd / "nowhere")
    return wd


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("result.json", ["result.json"]),
        ("outputs/one.csv", ["one.csv"]),
        ("outputs", []),
        ("missing.txt", []),
        ("../std*.txt", ["stderr.txt", "stdout.txt"]),
        ("../*.txt", ["stderr.txt", "stdout.txt"]),
        ("../.*.txt", [".secret.txt"]),
        ("*.txt", ["a.txt", "b*.txt", "link.txt", "name with blank.txt", "né\nw.txt"]),
        ("b[*].txt", ["b*.txt"]),
        ("[!abln]*.txt", []),
        ("?.txt", ["a.txt"]),
        (".*.txt", [".hidden.txt"]),
        ("outputs/**/*", ["deep/er/two.csv", "one.csv"]),
        ("outputs/**", ["deep/er/two.csv", "one.csv"]),
        ("**/*.csv", ["outputs/deep/er/two.csv", "outputs/one.csv"]),
        ("**/**/*.csv", ["outputs/deep/er/two.csv", "outputs/one.csv"]),
        ("**/deep/**/*.csv", ["outputs/deep/er/two.csv"]),
        ("./outputs/*/er/*.csv", ["deep/er/two.csv"]),
        ("**/.*.csv", ["outputs/deep/.four.csv"]),
        ("nowhere/*", []),
    ],
)
def test_names(working: Path, pattern: str, names: list[str]) -> None:
    assert sorted(match.name for match in patterns.find(pattern, working)) == names


def test_every_match_is_the_file_it_names(working: Path) -> None:
    matches = list(patterns.find("outputs/**/*", working))
    assert {match.path for match in matches} == {working / "outputs" / match.name for match in matches}


def test_absolute_patterns(working: Path) -> None:
    names = [match.name for match in patterns.find(f"{working}/outputs/*.csv", Path("/"))]
    assert names == ["one.csv"]


def test_variables_are_expanded_and_unknown_ones_kept() -> None:
    environment = {"HERE": "/x", "N": "1"}
    assert patterns.expand_variables("$HERE/out${N}/$NO/*$", environment) == "/x/out1/$NO/*$"
