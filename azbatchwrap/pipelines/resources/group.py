"""The resource group."""

from __future__ import annotations

from typing import ClassVar

from azbatchwrap.pipelines.arm import Document
from azbatchwrap.pipelines.context import Context
from azbatchwrap.pipelines.resources.step import ArmStep, managed_tags


class ResourceGroup(ArmStep):
    """A group's own location says nothing about what lies in it, so another one is no difference."""

    kind = "resource group"
    version = "2022-09-01"
    wave: ClassVar[int] = 0
    inside = ""

    def path(self, context: Context) -> str:
        return context.place.group

    def wanted(self, context: Context) -> Document:
        return {"tags": managed_tags(context)}

    def body(self, context: Context, wanted: Document, there: Document | None) -> Document:
        return {**wanted, "location": there["location"] if there else context.place.location}

    def remove(self, context: Context, there: Document, *, purge: bool = False) -> None:
        """Only an empty group is removed: what is left in it is somebody else's."""
        if not self.contents(context):
            super().remove(context, there)

    def contents(self, context: Context) -> list[str]:
        """The addresses of what lies in it."""
        return [str(each["id"]) for each in context.arm.pages(f"{context.place.group}/resources", self.version)]
