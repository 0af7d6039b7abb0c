"""The pages that `make docs` builds: without a warning, with every public name, and no link that leads nowhere."""

from __future__ import annotations

import importlib
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parent.parent
#: What users import from. Each has ``__all__``.
FRONT_DOORS = (
    "azbatchwrap", "azbatchwrap.batch", "azbatchwrap.batch.sessions", "azbatchwrap.batchkit", "azbatchwrap.config",
    "azbatchwrap.endpoints", "azbatchwrap.errors", "azbatchwrap.manifest", "azbatchwrap.queues",
    "azbatchwrap.speechkit", "azbatchwrap.storage",
)  # fmt: skip


class Page(HTMLParser):
    """The anchors of a page and where its links lead."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            elif (tag, name) in {("a", "href"), ("link", "href"), ("img", "src"), ("script", "src")} and value:
                self.links.append(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Page]:
    target = tmp_path_factory.mktemp("site").resolve()
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(target / ".trees")]
    done = subprocess.run([*command, "docs", str(target)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return {path: Page(path) for path in target.rglob("*.html")}


def test_every_link_leads_somewhere(site: dict[Path, Page]) -> None:
    broken = []
    for path, page in site.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            place = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = site[place].anchors if place in site else {""}
            if not place.exists() or (parts.fragment and unquote(parts.fragment) not in known):
                broken.append(f"{path.name}: {link}")
    assert broken == []


@pytest.mark.parametrize("module", FRONT_DOORS)
def test_every_public_name_is_described(site: dict[Path, Page], module: str) -> None:
    described = {anchor for page in site.values() for anchor in page.anchors}
    doors = [importlib.import_module(door) for door in FRONT_DOORS]
    found = importlib.import_module(module)

    def is_described(name: str) -> bool:
        """Here, or at another door that leads to the same."""
        same = [door for door in doors if getattr(door, name, None) is getattr(found, name)]
        return any(f"{door.__name__}.{name}" in described for door in same)

    assert [name for name in found.__all__ if not is_described(name)] == []


def test_what_a_session_and_a_task_get_is_described(site: dict[Path, Page]) -> None:
    described = {anchor for page in site.values() for anchor in page.anchors}
    wanted = {
        "azbatchwrap.Session.map", "azbatchwrap.Future.cancel",
        "azbatchwrap.batch.sessions.warm.Interactive.submit", "azbatchwrap.engine.api.Engine.add_file_to_upload",
    }  # fmt: skip
    assert wanted <= described
