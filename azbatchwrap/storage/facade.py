"""`AzureBatchStorage`: what a driver script knows of storage."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import TracebackType

from azbatchwrap import config, names
from azbatchwrap.errors import AzBatchWrapError, ConfigurationError, NotFound
from azbatchwrap.progress import NullProgress, Progress
from azbatchwrap.storage.account import Account
from azbatchwrap.storage.download import Downloader
from azbatchwrap.storage.dry import check_may_write
from azbatchwrap.storage.faults import translated
from azbatchwrap.storage.hashes import HashCache
from azbatchwrap.storage.inventory import Inventory, create_container, list_blobs
from azbatchwrap.storage.policies import StoredPolicies
from azbatchwrap.storage.records import BlobEntry, Content, Deployment, FileReference, Role, StoredDeployment
from azbatchwrap.storage.selection import Selection
from azbatchwrap.storage.upload import Uploader
from azbatchwrap.storage.wire import BlobWire

log = logging.getLogger(__name__)

#: How long an address handed out works, unless the caller says otherwise: as long as a job may run by default.
ADDRESS_LIFE = timedelta(days=7)
#: Content younger than this is never called unused: its job may be about to be made by another process.
SETTLING_TIME = timedelta(hours=1)
#: The file among the inputs that nodes install Python packages from.
REQUIREMENTS = "requirements.txt"
HASHES_FILE = "hashes.sqlite"
_CONTENT, _DEPLOYMENTS = "content/", "deployments/"


class AzureBatchStorage:
    """Uploads inputs, task files and applications once per content, and brings results back.

    ``settings`` default to what `config.load` finds. ``project`` names the containers; work of different projects
    never meets. ``hash_cache`` is where hashes of files are kept between runs. Close it, or use it in a ``with``.

    How files are called on a node is told in `azbatchwrap.storage.selection`.
    """

    def __init__(
        self,
        settings: config.Settings | None = None,
        *,
        project: str | None = None,
        progress: Progress | None = None,
        hash_cache: Path | None = None,
    ) -> None:
        self.settings = settings or config.load()
        self.project = project or self.settings.project
        self.progress = progress or NullProgress()
        self.account = Account(self.settings.storage)
        self._policies = StoredPolicies(self.account)
        self.files_container = names.files_container(self.project)
        self._output_container = names.output_container(self.project)
        self._wire = BlobWire(self.account)
        self._inventory = Inventory(self._wire, self.files_container, self.project)
        self._hashes = HashCache(hash_cache or config.data_folder() / HASHES_FILE)
        self._uploader = Uploader(self._wire, self._inventory, self._hashes, self.progress)
        self._selections = {role: Selection(flat=role is Role.TASK) for role in Role}
        self._contents: dict[Path, Content] = {}

    def __enter__(self) -> AzureBatchStorage:  # noqa: PYI034 - typing.Self is younger than Python 3.10
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends its connections."""
        self._wire.close()
        self._hashes.close()
        self.account.close()

    # -- files for nodes --

    def add_input_file_path(self, path: str | os.PathLike[str], *, name: str | None = None) -> None:
        """Adds a file, a folder with everything below it, or a pattern (``data/**/*.csv``) to the inputs.

        ``name`` is what it is called on a node, where the rule does not suit.
        Raises ConfigurationError naming what is missing or cannot be read.
        """
        self._selections[Role.INPUT].add(path, name)

    def add_task_file_path(self, path: str | os.PathLike[str], *, name: str | None = None) -> None:
        """Adds task files, as `add_input_file_path` does inputs. They lie in one folder: two of one name are refused."""
        self._selections[Role.TASK].add(path, name)

    def add_application_file_path(self, path: str | os.PathLike[str], *, name: str | None = None) -> None:
        """Adds application files, such as a jar, as `add_input_file_path` does inputs."""
        self._selections[Role.APPLICATION].add(path, name)

    def upload_input_files(self) -> None:
        """Sends the inputs that storage lacks. Raises ConfigurationError or ServiceError; a repeat sends the rest."""
        self._upload(Role.INPUT)

    def upload_task_files(self) -> None:
        """Sends the task files that storage lacks."""
        self._upload(Role.TASK)

    def upload_application_files(self) -> None:
        """Sends the application files that storage lacks."""
        self._upload(Role.APPLICATION)

    def get_application_input_files(self) -> list[FileReference]:
        """The inputs, sorted by name; uploads those that were not."""
        return self._references(Role.INPUT)

    def input_names(self) -> list[str]:
        """What the inputs are called on a node, sorted; nothing is uploaded for it."""
        return sorted(self._selections[Role.INPUT].files())

    def get_batch_task_files(self) -> list[FileReference]:
        """The task files, sorted by name; uploads those that were not."""
        return self._references(Role.TASK)

    def get_application_files(self) -> list[FileReference]:
        """The application files, sorted by name; uploads those that were not."""
        return self._references(Role.APPLICATION)

    def upload_as(self, files: Mapping[str, Path | bytes], role: Role) -> list[FileReference]:
        """Sends files (or bytes) under names of the caller's choice, without adding them to those of later calls.

        Raises ConfigurationError for a name that leaves its folder or a file that cannot be read.
        """
        for name in files:
            try:
                names.safe_relative(name)
            except ValueError as error:
                raise ConfigurationError(str(error)) from error
        paths = {name: path for name, path in files.items() if isinstance(path, Path)}
        contents = self._uploader.upload(dict.fromkeys(paths.values()), f"{role.value} files")
        sent = {name: contents[path] for name, path in paths.items()}
        sent |= {name: self._uploader.upload_bytes(data) for name, data in files.items() if isinstance(data, bytes)}
        return [self._reference(name, sent[name], role) for name in sorted(sent)]

    def stored(self, files: Mapping[str, Path | bytes]) -> dict[str, tuple[int, bool]]:
        """What an upload of these files would find: each one's size in bytes, and whether storage has it. Sends nothing."""
        try:
            there = {entry.name for entry in list_blobs(self._wire, self.files_container, _CONTENT)}
        except NotFound:
            there = set()
        found = {}
        for name, file in files.items():
            data = file if isinstance(file, bytes) else file.read_bytes()
            found[name] = (len(data), names.content_blob(hashlib.sha256(data).hexdigest()) in there)
        return found

    def chosen_files(self) -> dict[str, Path]:
        """Every file that was added, by its role's folder and name on a node."""
        return {f"{role.folder}/{name}": path for role in Role for name, path in self._selections[role].files().items()}

    def _upload(self, role: Role) -> None:
        files = self._selections[role].files()
        self._contents.update(self._uploader.upload(dict.fromkeys(files.values()), f"{role.value} files"))

    def _references(self, role: Role) -> list[FileReference]:
        files = self._selections[role].files()
        if any(path not in self._contents for path in files.values()):
            self._upload(role)
        found = sorted((name, self._contents[path]) for name, path in files.items())
        return [self._reference(name, content, role) for name, content in found]

    def _reference(self, name: str, content: Content, role: Role) -> FileReference:
        url = self.blob_sas(self.files_container, names.content_blob(content.sha256), "r", self._longest_life())
        return FileReference(name, content.sha256, content.size, role, url)

    def deploy(
        self, files: Sequence[FileReference], engine: bytes | Path, *, life: timedelta | None = None
    ) -> Deployment:
        """Writes the list of ``files`` and the engine that nodes lay them out with; the same list is written once.

        The deployment's addresses work for ``life``. The list is JSON, ASCII only: ``{"version": 1, "engine":
        SHA256, "requirements": SHA256 or null, "files": [{"path": "inputs/a.txt", "sha256": …, "size": …}, …]}``.
        Raises ConfigurationError when two files want one place, NotFound when a file's content is gone.
        """
        places = _places(files)
        lost = [file.name for file in files if not self._holds(file)]
        if lost:
            raise NotFound(f"not in storage (any more): {', '.join(lost[:5])}. Upload the files again", status=404)
        built = self._uploader.upload_bytes(engine.read_bytes() if isinstance(engine, Path) else engine)
        requirements = places.get(f"{Role.INPUT.folder}/{REQUIREMENTS}")
        listed = {
            "version": 1,
            "engine": built.sha256,
            "requirements": requirements.sha256 if requirements else None,
            "files": [{"path": place, "sha256": f.sha256, "size": f.size} for place, f in sorted(places.items())],
        }
        data = json.dumps(listed, ensure_ascii=True, separators=(",", ":")).encode()
        digest = hashlib.sha256(data).hexdigest()
        blob = names.deployment_blob(digest)
        if not self._inventory.holds_blob(blob, len(data)):
            self._wire.put_blob(self.files_container, blob, data)
            self._inventory.add(blob, len(data))
        expires = datetime.now(timezone.utc) + (life or self._longest_life())
        return Deployment(
            digest,
            self.files_container,
            self.blob_sas(self.files_container, blob, "r", expires),
            self.blob_sas(self.files_container, names.content_blob(built.sha256), "r", expires),
            expires,
        )

    def _holds(self, file: FileReference) -> bool:
        self._inventory.refresh()
        return self._inventory.holds(Content(file.sha256, file.size))

    # -- signatures for nodes --

    def container_sas(self, container: str, permissions: str, expiry: datetime | timedelta, *, policy: str = "") -> str:
        """The address of one container that allows ``permissions`` (as ``rl``) until ``expiry``; tell it nodes only.

        With ``policy`` (see `stored_policy`) only as long as the container has that one.
        Raises ConfigurationError when the credential cannot sign for that long.
        """
        signature = self.account.container_signature(container, permissions, expiry, policy=policy)
        return f"{self.account.blob_url}/{container}?{signature}"

    def blob_sas(
        self, container: str, blob: str, permissions: str, expiry: datetime | timedelta, *, policy: str = ""
    ) -> str:
        """The address of one blob that allows ``permissions`` until ``expiry``; ``policy`` as in `container_sas`."""
        signature = self.account.blob_signature(container, blob, permissions, expiry, policy=policy)
        return f"{self.account.url(container, blob)}?{signature}"

    def stored_policy(self, container: str, permissions: str) -> str:
        """The stored access policy that long-lived addresses of a container refer to, made if need be.

        Removing it from the container ends them all. Empty where no account key signs.
        """
        return self._policies.of(container, permissions)

    def longest_sas(self) -> timedelta | None:
        """How long an address can work at most; ``None`` without a limit."""
        return self.account.longest_signature()

    def _longest_life(self) -> timedelta:
        limit = self.longest_sas()
        return ADDRESS_LIFE if limit is None else min(ADDRESS_LIFE, limit)

    # -- results --

    @property
    def output_container(self) -> str:
        """Where tasks leave their results."""
        return self._output_container

    def create_output_folder(self, name: str | None = None) -> str:
        """Makes the container for results and gives its name; ``name`` replaces the project's own."""
        container = name or names.output_container(self.project)
        if not names.CONTAINER_PATTERN.match(container):
            raise ConfigurationError(
                f"{container!r} cannot name a container: 3 to 63 lower-case letters, digits and single inner hyphens"
            )
        create_container(self._wire, container, self.project)
        self._output_container = container
        return container

    def download_results(
        self,
        job_id: str,
        directory: str | os.PathLike[str],
        *,
        container: str | None = None,
        tasks: Collection[str] | None = None,
    ) -> list[Path]:
        """Brings a job's results to ``directory/TASK/…`` and gives the paths. A repeat fetches only what is new.

        ``tasks`` limits it to these tasks. Raises NotFound without a container, ConfigurationError when
        ``directory`` cannot be written. Names that could leave the folder are replaced and reported.
        """
        downloader = Downloader(self._wire, self.progress)
        return downloader.download(container or self._output_container, job_id, tasks, Path(directory))

    # -- single blobs --

    def list_blobs(self, container: str, prefix: str = "") -> Iterator[BlobEntry]:
        """The blobs below ``prefix``."""
        return list_blobs(self._wire, container, prefix)

    def read_bytes(self, container: str, blob: str) -> bytes:
        """A small blob's content. Raises NotFound."""
        return self._wire.read(container, blob)

    def read_json(self, container: str, blob: str) -> object:
        """A blob that is JSON. Raises NotFound, or AzBatchWrapError when it is not JSON."""
        data = self.read_bytes(container, blob)
        try:
            return json.loads(data)
        except ValueError as error:
            raise AzBatchWrapError(f"{container}/{blob} is not JSON: {error}") from error

    def read_many(self, container: str, blobs: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """The content of small blobs in the order asked, several read at once; ``None`` for one that is not there."""

        def read(blob: str) -> tuple[str, bytes | None]:
            try:
                return blob, self.read_bytes(container, blob)
            except NotFound:
                return blob, None

        with ThreadPoolExecutor(self._wire.connections, thread_name_prefix="read") as pool:
            yield from pool.map(read, blobs)

    def read_end(self, container: str, blob: str, size: int) -> bytes:
        """The last ``size`` bytes of a blob of any length. Raises NotFound."""
        entry = next((found for found in self.list_blobs(container, blob) if found.name == blob), None)
        if entry is None:
            raise NotFound(f"{container}/{blob} does not exist", code="BlobNotFound", status=404)
        if entry.size == 0:
            return b""
        with self._wire.reading(container, blob, start=max(0, entry.size - size), etag=entry.etag) as body:
            return b"".join(body.pieces(size))

    def write_bytes(self, container: str, blob: str, data: bytes) -> None:
        """Writes a small blob, over an older one if there is."""
        self._wire.put_blob(container, blob, data)

    # -- what nothing uses --

    def list_deployments(self) -> list[StoredDeployment]:
        """The project's deployments, oldest first."""
        found = [
            StoredDeployment(entry.name.removeprefix(_DEPLOYMENTS).removesuffix(".json"), entry.modified)
            for entry in self._existing(self.files_container, _DEPLOYMENTS)
        ]
        return sorted(found, key=lambda deployment: deployment.made)

    def unused_content(self, referenced: set[str], *, settled: timedelta = SETTLING_TIME) -> list[BlobEntry]:
        """The deployments not in ``referenced`` (hashes) and the content that none of the others lists.

        What was written within ``settled`` is left out. Raises ServiceError; with no files container it is empty.
        """
        now = datetime.now(timezone.utc)
        entries = [entry for entry in self._existing(self.files_container, "") if now - entry.modified >= settled]
        kept = {names.deployment_blob(deployment) for deployment in referenced}
        for deployment in self.list_deployments():
            if now - deployment.made < settled:
                kept.add(names.deployment_blob(deployment.hash))
        lists = self.read_many(self.files_container, sorted(kept))
        used = kept | {blob for _, data in lists if data is not None for blob in _listed_content(data)}
        return [e for e in entries if e.name.startswith((_CONTENT, _DEPLOYMENTS)) and e.name not in used]

    def delete_content(self, entries: Iterable[BlobEntry]) -> int:
        """Deletes blobs of the files container and says how many were there."""
        return self.delete_blobs(self.files_container, (entry.name for entry in entries))

    def delete_blobs(self, container: str, blobs: Iterable[str]) -> int:
        """Deletes blobs and says how many were there."""
        check_may_write()
        client = self.account.client.get_container_client(container)

        def delete(blob: str) -> bool:
            try:
                with translated(f"deleting {container}/{blob}"):
                    client.delete_blob(blob)
            except NotFound:
                return False
            finally:
                if container == self.files_container:
                    self._inventory.discard(blob)
            return True

        with ThreadPoolExecutor(self._wire.connections, thread_name_prefix="delete") as pool:
            return sum(pool.map(delete, blobs))

    def list_containers(self) -> list[str]:
        """The containers that were made for this project."""
        with translated("listing containers"):
            found = list(self.account.client.list_containers(include_metadata=True))
        return [c.name for c in found if (c.metadata or {}).get(names.PROJECT) == self.project]

    def delete_container(self, container: str) -> bool:
        """Deletes a container with all that is in it; ``False`` when there is none."""
        check_may_write()
        try:
            with translated(f"deleting the container {container}"):
                self.account.client.delete_container(container)
        except NotFound:
            return False
        finally:
            self._inventory.forget()
        return True

    def _existing(self, container: str, prefix: str) -> list[BlobEntry]:
        try:
            return list(list_blobs(self._wire, container, prefix))
        except NotFound:
            return []

    # The names of the first version, in its spelling.
    # ruff: noqa: N815
    addInputFilePath = add_input_file_path
    addTaskFilePath = add_task_file_path
    addApplicationFilePath = add_application_file_path
    uploadInputFiles = upload_input_files
    uploadTaskFiles = upload_task_files
    uploadApplicationFiles = upload_application_files
    getApplicationInputFiles = get_application_input_files
    getBatchTaskFiles = get_batch_task_files
    getApplicationFiles = get_application_files
    createOutputFolder = create_output_folder
    downloadResults = download_results


def _places(files: Sequence[FileReference]) -> dict[str, FileReference]:
    places: dict[str, FileReference] = {}
    for file in files:
        place = f"{Role(file.role).folder}/{file.name}"
        other = places.setdefault(place, file)
        if other.sha256 != file.sha256:
            raise ConfigurationError(f"two different files are both called {place} on a node")
    return places


def _listed_content(data: bytes) -> Iterator[str]:
    """The blobs that a deployment's list refers to."""
    listed: Mapping[str, object] = json.loads(data)
    hashes = [listed["engine"], *(file["sha256"] for file in listed["files"])]  # type: ignore[attr-defined]
    yield from (names.content_blob(str(sha256)) for sha256 in hashes)
