"""A batch of sound files: its settings, its work items with the place of each result, and its run summary."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from azbatchwrap.batchkit import (
    BatchConfig,
    BatchRequest,
    BatchRunSummarizer,
    Counts,
    EndpointStatusChecker,
    ItemRecord,
    file_fingerprint,
    file_stats,
)
from azbatchwrap.batchkit.journal import RunPaths, read_records
from azbatchwrap.batchkit.types import FILES_SCHEMA, listed_files
from azbatchwrap.errors import ConfigurationError
from azbatchwrap.speechkit.audio import SUFFIXES, seconds_of
from azbatchwrap.speechkit.endpoints import SpeechEndpointStatusChecker
from azbatchwrap.speechkit.processor import SpeechItem, SpeechProcessor
from azbatchwrap.speechkit.results import combine, result_name
from azbatchwrap.speechkit.wishes import WISHES_SCHEMA, Wishes, changed

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, kw_only=True)
class SpeechConfig(BatchConfig):
    """``combine``: also write ``results.json``. ``scratch_folder`` takes files while they are being converted.

    ``shared_folder`` keeps the latest result of every file where each batch has a folder of its own (REST).
    """

    wishes: Wishes = field(default_factory=Wishes)
    combine: bool = False
    scratch_folder: Path | None = None
    shared_folder: Path | None = None
    #: One for all batches of a process: its workers are used again.
    processor: SpeechProcessor = field(default_factory=SpeechProcessor, compare=False, repr=False)


class SpeechBatchRequest(BatchRequest):
    """Sound files to transcribe."""

    #: What the public kit's clients write into ``type`` of a submitted batch.
    type_names = ("SpeechSDKBatchRequest",)
    json_schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "required": ["files"],
        "properties": {
            "type": {"type": "string", "enum": ["SpeechSDKBatchRequest", "SpeechBatchRequest"]},
            "files": FILES_SCHEMA,
            "combine_results": {"type": "boolean", "description": "also write results.json"},
            **WISHES_SCHEMA,
        },
    }
    config: SpeechConfig

    def __init__(
        self, files: Sequence[Path], config: BatchConfig, wishes: Wishes | None = None, *, combine_results: bool = False
    ) -> None:
        super().__init__(files, config)
        assert isinstance(config, SpeechConfig)
        self.config = config
        self.wishes = wishes or config.wishes
        self._combine = combine_results or config.combine

    @classmethod
    def from_json(cls, document: Mapping[str, Any], config: BatchConfig) -> Self:
        """The public kit's document; what it does not say is as on the command line."""
        assert isinstance(config, SpeechConfig)
        files = listed_files(document, config.input_folder)
        wanted = str(document.get("combine_results", False)).lower()
        if wanted not in {"true", "false"}:
            raise ConfigurationError(f"combine_results: expected true or false, found {wanted!r}")
        return cls(files, config, changed(config.wishes, document), combine_results=wanted == "true")

    @classmethod
    def is_valid_input_file(cls, path: Path) -> bool:
        return super().is_valid_input_file(path) and path.suffix.lower() in SUFFIXES

    @classmethod
    def get_endpoint_status_checker(cls, config: BatchConfig) -> EndpointStatusChecker:  # noqa: ARG003  not needed here
        return SpeechEndpointStatusChecker()

    def get_work_item_processor(self) -> SpeechProcessor:
        return self.config.processor

    def get_batch_run_summarizer(self) -> SpeechRunSummarizer:
        return SpeechRunSummarizer()

    def make_work_items(self) -> Iterator[SpeechItem]:
        """The longest first, as far as lengths can be read from the headers."""
        for path in self.files:
            place = self._place(path)
            seconds = seconds_of(path)
            config, log_folder = self.config, self.config.log_folder
            shared = config.shared_folder if config.shared_folder != config.output_folder else None
            yield SpeechItem(
                id=str(path),
                fingerprint=file_fingerprint(path),
                priority=-1.0 if seconds is None else seconds,
                path=path,
                result=config.output_folder / place,
                shared=shared / place if shared is not None else None,
                wishes=self.wishes,
                seconds=seconds,
                log_file=log_folder / place.with_suffix(".sdk.log") if log_folder is not None else None,
                scratch=config.scratch_folder,
                output_folder=config.output_folder,
            )

    def _place(self, path: Path) -> Path:
        """Where the result of ``path`` lies in the output folder: as the file in the input folder.

        Files from elsewhere that share a name are told apart by a short hash of their folders.
        """
        name = result_name(path)
        folder = self.config.input_folder
        if folder is not None and path.is_relative_to(folder):
            return path.relative_to(folder).parent / name
        if path.name in self._repeated_names:
            mark = hashlib.sha256(str(path.parent).encode(errors="surrogateescape")).hexdigest()[:8]
            return Path(f"{name.removesuffix('.json')}.{mark}.json")
        return Path(name)

    @cached_property
    def _repeated_names(self) -> frozenset[str]:
        """Names that files in several folders have. By hashes, since there may be millions of files."""
        places: dict[int, int] = {}
        repeated: set[str] = set()
        for text in map(os.fspath, self.files):
            name, place = text.rpartition(os.sep)[2], hash(text)
            if places.setdefault(hash(name), place) != place:
                repeated.add(name)
        return frozenset(repeated)

    def finish(self, *, complete: bool) -> None:
        if self._combine:
            folder = self.config.output_folder
            records = sorted(read_records(RunPaths(folder).results), key=lambda record: record.id)
            combine(folder, (folder / str(record.result.value) for record in records if record.result.value))


class SpeechRunSummarizer(BatchRunSummarizer):
    """The public kit's summary: seconds of sound beside the counts of files."""

    def __init__(self) -> None:
        self._decoded = 0.0

    def add(self, record: ItemRecord) -> None:
        if record.result.passed and not record.result.cached:
            self._decoded += float(record.result.details.get("audio_duration") or 0.0)

    def entry(self, record: ItemRecord) -> dict[str, Any]:
        return {"audio_duration": None, **super().entry(record)}

    def overall(self, counts: Counts, *, elapsed: float, endpoints: int) -> dict[str, Any]:
        return {
            "audio_stats": {
                "time_elapsed_seconds": elapsed,
                "total_decoded_seconds": self._decoded,
                "num_endpoints": endpoints,
                "decode_ratio": self._decoded / elapsed if elapsed > 0 else 0.0,
            },
            "file_stats": file_stats(counts),
        }
