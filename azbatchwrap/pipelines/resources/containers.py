"""Blob containers, and the data file (or folder) in the source container."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from azbatchwrap.pipelines.arm import Document
from azbatchwrap.pipelines.assets import Files
from azbatchwrap.pipelines.blobs import HASH, MANAGED
from azbatchwrap.pipelines.context import Context
from azbatchwrap.pipelines.resources.step import Step


class Container(Step):
    kind = "container"
    inside = "storage account"
    wave: ClassVar[int] = 2

    def wanted(self, context: Context) -> Document:
        return {"tags": dict(MANAGED)}

    def read(self, context: Context) -> Document | None:
        if context.found.get("storage account") is None:
            return None
        return context.blobs().container(self.name)

    def write(self, context: Context, wanted: Document, there: Document | None) -> Document:
        context.blobs().make_container(self.name)
        return wanted

    def remove(self, context: Context, there: Document, *, purge: bool = False) -> None:
        context.blobs().remove_container(self.name)


class _Upload(Step):
    """Local files as blobs; compared by the hashes that they were uploaded with."""

    inside = "storage account"
    vanishes: ClassVar[bool] = True
    wave: ClassVar[int] = 2

    @abstractmethod
    def files(self, context: Context) -> Files:
        """The local files, by their names below the prefix."""

    def prefix(self, context: Context) -> str:
        """Folder of the blobs, with its slash; empty for the container's root."""
        return ""

    def wanted(self, context: Context) -> Document:
        prefix = self.prefix(context)
        hashes = {f"{prefix}{name}": digest for name, digest in self.files(context).hashes.items()}
        return {HASH: hashes}

    def read(self, context: Context) -> Document | None:
        """The blobs of a folder, or the one blob: those of others beside it are none of our business."""
        if context.found.get("storage account") is None:
            return None
        wanted = self.wanted(context)[HASH]
        common = _common_start(list(wanted))
        there = context.blobs().hashes(context.settings.source_container, common)
        is_folder = common.endswith("/") or len(wanted) > 1
        kept = {name: digest for name, digest in there.items() if is_folder or name in wanted}
        return {HASH: kept} if kept else None

    def is_ours(self, there: Document) -> bool:
        """What lies under our names is brought up to date, whoever wrote it."""
        return True

    def write(self, context: Context, wanted: Document, there: Document | None) -> Document:
        before = there[HASH] if there else {}
        prefix = self.prefix(context)
        changed = {name[len(prefix) :]: name for name, digest in wanted[HASH].items() if before.get(name) != digest}
        context.blobs().upload(context.settings.source_container, self.files(context), changed)
        context.blobs().remove(context.settings.source_container, [name for name in before if name not in wanted[HASH]])
        return wanted

    def remove(self, context: Context, there: Document, *, purge: bool = False) -> None:
        context.blobs().remove(context.settings.source_container, list(there[HASH]))


class DataFile(_Upload):
    kind = "data"

    def files(self, context: Context) -> Files:
        return context.assets.data

    def label(self, context: Context) -> str:
        return f"{context.settings.source_container}/{context.settings.data.name}"


class ModelFiles(_Upload):
    """Models lie in the source container, under their hash: a version of a model never changes."""

    kind = "model files"

    def files(self, context: Context) -> Files:
        assert context.assets.model is not None
        return context.assets.model

    def prefix(self, context: Context) -> str:
        return f"models/{self.files(context).digest}/"

    def label(self, context: Context) -> str:
        return f"{context.settings.source_container}/{self.prefix(context)}"


def _common_start(names: list[str]) -> str:
    """The longest folder that all names share; the name itself where there is one."""
    if len(names) == 1:
        return names[0]
    first, last = min(names), max(names)
    same = 0
    while same < min(len(first), len(last)) and first[same] == last[same]:
        same += 1
    return first[: first.rfind("/", 0, same) + 1]
