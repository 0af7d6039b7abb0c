"""Resource ids: ``/subscriptions/S/resourceGroups/R/providers/NAMESPACE/TYPE/NAME[/TYPE/NAME …]``. Case is kept, not heeded."""

from __future__ import annotations

from dataclasses import dataclass

from azbatchwrap.local.arm.errors import bad_request


@dataclass(frozen=True, slots=True)
class ResourceId:
    """``types`` and ``names`` are of equal length; ``group`` is empty for resources of the subscription itself."""

    subscription: str
    group: str
    namespace: str
    types: tuple[str, ...]
    names: tuple[str, ...]

    @property
    def text(self) -> str:
        """The id with the words in the spelling that clients' parsers insist on."""
        group = f"/resourceGroups/{self.group}" if self.group else ""
        pairs = "".join(f"/{kind}/{name}" for kind, name in zip(self.types, self.names, strict=True))
        return f"/subscriptions/{self.subscription}{group}/providers/{self.namespace}{pairs}"

    @property
    def key(self) -> str:
        """What two spellings of one id have in common."""
        return self.text.lower()

    @property
    def kind(self) -> str:
        """``Microsoft.Storage/storageAccounts``."""
        return "/".join((self.namespace, *self.types))

    @property
    def name(self) -> str:
        return self.names[-1]

    @property
    def parent(self) -> ResourceId | None:
        if len(self.types) == 1:
            return None
        return ResourceId(self.subscription, self.group, self.namespace, self.types[:-1], self.names[:-1])

    def child(self, kind: str, name: str) -> ResourceId:
        return ResourceId(self.subscription, self.group, self.namespace, (*self.types, kind), (*self.names, name))


def parse(text: str) -> ResourceId:
    """Raises ArmError InvalidResourceId when ``text`` does not name one resource of a provider."""
    parts = text.strip("/").split("/")
    words = [part.lower() for part in parts]
    group = ""
    if len(parts) > 4 and words[0] == "subscriptions":
        rest = 2
        if words[2] == "resourcegroups":
            group, rest = parts[3], 4
        pairs = parts[rest + 2 :]
        if words[rest] == "providers" and pairs and len(pairs) % 2 == 0 and all(parts):
            return ResourceId(parts[1], group, parts[rest + 1], tuple(pairs[::2]), tuple(pairs[1::2]))
    raise bad_request(f"The resource id '{text}' is not valid.", "InvalidResourceId")


def group_key(subscription: str, group: str) -> str:
    return f"/subscriptions/{subscription}/resourceGroups/{group}".lower()
