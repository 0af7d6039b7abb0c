"""What the documents promise is there: links lead somewhere, and every command they quote exists."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from azbatchwrap import manifest
from azbatchwrap.cli.main import cli

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")})

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)|!\[[^\]]*\]\(<?([^)\s>]+)>?\)")
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(azbatchwrap [^`\n]+)`")
HEADING = re.compile(r"^#+\s+(.+?)\s*$", re.MULTILINE)


def ident(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def prose(path: Path) -> str:
    return FENCE.sub("", path.read_text(encoding="utf-8"))


def anchor(heading: str) -> str:
    """As GitHub makes it."""
    text = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    return re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-")


@pytest.mark.parametrize("path", DOCUMENTS, ids=ident)
def test_links_lead_somewhere(path: Path) -> None:
    broken = []
    for match in LINK.finditer(prose(path)):
        target, _, part = (match[1] or match[2]).partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        place = (path.parent / target).resolve() if target else path
        if not place.exists() or not place.is_relative_to(ROOT):
            broken.append(match[0])
        elif part and place.suffix == ".md":
            headings = {anchor(heading) for heading in HEADING.findall(prose(place))}
            broken += [] if part.lower() in headings else [match[0]]
    assert broken == []


def commands() -> Iterator[tuple[str, str]]:
    """Every `azbatchwrap …` that a document quotes, with the document's name."""
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        for language, block in FENCE.findall(text):
            if language in {"", "sh", "bash", "console", "shell"}:
                for line in block.replace("\\\n", " ").splitlines():
                    yield from ((ident(path), part) for part in simple_commands(line.strip().removeprefix("$ ")))
        yield from ((ident(path), line) for line in INLINE.findall(FENCE.sub("", text)))


def simple_commands(line: str) -> Iterator[str]:
    for part in re.split(r"&&|\|\||[|;]|\$\(|\)", line.partition(" #")[0]):
        if part.strip().startswith("azbatchwrap "):
            yield part.strip().rstrip("\"'")


def unknown_parts(line: str) -> list[str]:
    """The words of a quoted command that the command line does not know: sub-commands and options."""
    line = re.sub(r"[…\[\]]|\.\.\.", " ", line)
    words = [word for word in shlex.split(line)[1:] if word]
    command: click.Command = cli
    unknown = []
    for word in words:
        option = word.partition("=")[0]
        if option.startswith("-"):
            known = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
            unknown += [] if option in known | {"--help", "-h"} else [option]
        elif isinstance(command, click.Group):
            names = word.split("|")
            found = [command.get_command(click.Context(command), name) for name in names]
            unknown += [name for name, child in zip(names, found, strict=True) if child is None]
            if len(names) > 1 or found[0] is None:
                break
            command = found[0]
    return unknown


def test_the_manifests_of_the_examples_can_be_read(tmp_path: Path) -> None:
    for part in ("examples", "tasks"):
        shutil.copytree(ROOT / part, tmp_path / part)
    blocks = FENCE.findall((ROOT / "examples" / "README.md").read_text(encoding="utf-8"))
    shown = [(language, text) for language, text in blocks if language in {"json", "csv"}]
    assert [language for language, _ in shown] == ["json", "csv"]
    for language, text in shown:
        (tmp_path / f"task.{language}").write_text(text)
        assert len(manifest.read(tmp_path / f"task.{language}").records) == 2


def test_there_are_documents_and_they_quote_commands() -> None:
    assert "README.md" in map(ident, DOCUMENTS)
    assert any(name == "examples/README.md" for name, _ in commands())


@pytest.mark.parametrize(("document", "line"), sorted(set(commands())))
def test_quoted_commands_exist(document: str, line: str) -> None:
    assert unknown_parts(line) == [], f"{document} quotes: {line}"


@pytest.mark.parametrize(
    ("line", "unknown"),
    [
        ("azbatchwrap run task.json --input a.csv", []),
        ("azbatchwrap rnu", ["rnu"]),
        ("azbatchwrap job retry JOB --faild", ["--faild"]),
        ("azbatchwrap pool list|show|vanish", ["vanish"]),
        ("azbatchwrap init [DIR]", []),
    ],
)
def test_wrong_quotes_would_be_found(line: str, unknown: list[str]) -> None:
    assert unknown_parts(line) == unknown
