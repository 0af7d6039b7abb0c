"""One batch on many machines: shards of the files run as tasks of an Azure Batch job, and their summaries are merged."""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azbatchwrap.batchkit import Counts, EndpointSpec, file_stats
from azbatchwrap.errors import ConfigurationError
from azbatchwrap.speechkit.batch import SpeechBatchRequest, SpeechConfig
from azbatchwrap.speechkit.endpoints import Api
from azbatchwrap.speechkit.processor import SpeechItem
from azbatchwrap.speechkit.results import SUCCEEDED, checksum, combine, earlier_result, write_result
from azbatchwrap.speechkit.wishes import Wishes

if TYPE_CHECKING:
    from azbatchwrap.batch import AzureBatch, TaskResult

#: Where the sound files lie in a task's working folder.
SOUNDS = "audio"
TASK_FILE = "speech_shard.py"
ENDPOINTS_FILE = "endpoints.json"
#: The packages that the client imports on a node, and the one that only some endpoints need.
PACKAGES = frozenset({"aiohttp", "click", "orjson", "platformdirs", "pyyaml", "tinytag", "uvloop", "watchfiles"})
SDK_PACKAGE = "azure-cognitiveservices-speech"
#: A shard that fails as a whole, such as by a node that goes away, is tried again so often.
RETRIES = 1


@dataclass(frozen=True, slots=True)
class Shard:
    """Files for one task. ``id`` is the task's."""

    id: str
    items: tuple[SpeechItem, ...]


@dataclass(slots=True)
class Merged:
    """What became of all files: the entries of the summary, and what their sums are made of."""

    entries: list[dict[str, Any]]
    counts: Counts
    decoded: float = 0.0

    def add(self, entry: dict[str, Any]) -> None:
        self.entries.append(entry)
        self.counts.passed += bool(entry["passed"])
        self.counts.failed += not entry["passed"]
        self.counts.cached += bool(entry["cached"])
        if entry["passed"] and not entry["cached"]:
            self.decoded += float(entry.get("audio_duration") or 0.0)


def run_on_pool(
    batch: AzureBatch,
    pool_id: str,
    files: Sequence[Path],
    config: SpeechConfig,
    endpoints: Sequence[EndpointSpec],
    *,
    shards: int | None = None,
) -> Counts:
    """Transcribe ``files`` on the nodes of a pool, in ``shards`` tasks (default: one per node), and bring the results.

    Files whose results are in the output folder are left out. Raises ConfigurationError, PoolError, ServiceError.
    """
    started = time.time()
    _check(files, config, endpoints)
    batch.use_existing_pool(pool_id)
    merged = Merged([], Counts())
    items = list(SpeechBatchRequest(list(dict.fromkeys(files)), config).make_work_items())
    merged.counts.total = len(items)
    todo = [item for item in items if not _is_done(item, merged)]
    plan = divide(todo, shards or _nodes(batch, pool_id))
    if plan:
        with tempfile.TemporaryDirectory(prefix="speech-shards-") as folder:
            _run(batch, plan, Path(folder), config, endpoints, merged=merged)
    if config.combine:
        combine(config.output_folder, (item.result for item in items))
    _write_summary(config.output_folder, merged, time.time() - started, len(endpoints))
    return merged.counts


def divide(items: Iterable[SpeechItem], shards: int) -> list[Shard]:
    """The items in at most ``shards`` parts of about the same length of sound: the longest first, each to the part
    that has the least (Graham's rule, at most 4/3 of the best)."""
    parts: list[tuple[float, int, list[SpeechItem]]] = [(0.0, number, []) for number in range(shards)]
    for item in sorted(items, key=lambda item: -(item.seconds or 0.0)):
        seconds, number, part = heapq.heappop(parts)
        part.append(item)
        # Each file costs something, however short it is.
        heapq.heappush(parts, (seconds + 1.0 + (item.seconds or 0.0), number, part))
    used = sorted((number, part) for _, number, part in parts if part)
    return [Shard(f"shard-{number + 1:04}", tuple(part)) for number, part in used]


def _check(files: Sequence[Path], config: SpeechConfig, endpoints: Sequence[EndpointSpec]) -> None:
    for spec in endpoints:
        if spec.options.get("subscription"):
            raise ConfigurationError(
                f"endpoint {spec.name!r} has a subscription key, and no key goes to nodes: use containers without one"
            )
    folder = config.input_folder
    strange = [path for path in files if folder is None or not path.is_relative_to(folder)]
    if strange:
        raise ConfigurationError(f"{strange[0]} is not below the input folder {folder}: on a pool all files are")


def _nodes(batch: AzureBatch, pool_id: str) -> int:
    pool = batch.pools.get(pool_id)
    return max(1, int(pool.get("targetDedicatedNodes", 0)) + int(pool.get("targetLowPriorityNodes", 0)))


def _is_done(item: SpeechItem, merged: Merged) -> bool:
    """Whether an earlier run has transcribed the same content; it then has its entry in the summary."""
    try:
        found = earlier_result(item.result, checksum(item.path)) if item.result.exists() else None
    except OSError:
        return False  # the task will say why it cannot be read
    if found is None or found.get("TranscriptionStatus") != SUCCEEDED:
        return False
    merged.add(_entry(item, passed=True, cached=True, audio_duration=found.get("AudioLengthInSeconds")))
    return True


def _entry(item: SpeechItem, **facts: Any) -> dict[str, Any]:
    entry = {
        "audio_duration": None, "filepath": item.id, "passed": False, "endpoint": None, "latency": 0.0, "retries": 0,
        "can_retry": False, "thread": None, "cached": False, "error_type": None, "failed_reason": None,
    }  # fmt: skip
    return entry | facts


def _run(
    batch: AzureBatch,
    plan: Sequence[Shard],
    folder: Path,
    config: SpeechConfig,
    endpoints: Sequence[EndpointSpec],
    *,
    merged: Merged,
) -> None:
    storage = batch.storage
    for name, path in _prepared(plan, folder, config, endpoints).items():
        storage.add_input_file_path(path, name=name)
    task_file = Path(__file__).with_name("shard.py")
    storage.add_task_file_path(task_file, name=TASK_FILE)
    job_id = batch.create_a_job(
        input_resources=storage.get_application_input_files(), task_files=storage.get_batch_task_files()
    )
    (folder / TASK_FILE).write_bytes(task_file.read_bytes())  # the manifest's reader looks for it
    batch.add_tasks_from_manifest_file(job_id, _manifest(plan, folder, config))
    results = {result.task_id: result for result in batch.get_results(job_id)}
    storage.download_results(job_id, folder / "results")
    for shard in plan:
        _take_in(shard, folder / "results" / shard.id, results.get(shard.id), config, merged)


def _prepared(
    plan: Sequence[Shard], folder: Path, config: SpeechConfig, endpoints: Sequence[EndpointSpec]
) -> dict[str, Path]:
    """What the tasks need, by its name on a node."""
    from azbatchwrap.batch.own_wheel import build_wheel

    with_sdk = any(spec.options["api"] == Api.SDK.value for spec in endpoints)
    wheel, content = build_wheel(PACKAGES | {SDK_PACKAGE} if with_sdk else PACKAGES)
    made: dict[str, bytes] = {
        wheel: content,
        "requirements.txt": f"./{wheel}\n".encode(),
        ENDPOINTS_FILE: json.dumps({spec.name: _shared(spec, len(plan)) for spec in endpoints}).encode(),
    }
    for shard in plan:
        names = "".join(f"{_below(item, config)}\n" for item in shard.items)
        made[f"{shard.id}.txt"] = names.encode("utf-8", "surrogateescape")
    for name, data in made.items():
        (folder / name).write_bytes(data)
    files = {name: folder / name for name in made}
    return files | {f"{SOUNDS}/{_below(item, config)}": item.path for shard in plan for item in shard.items}


def _below(item: SpeechItem, config: SpeechConfig) -> str:
    assert config.input_folder is not None
    return item.path.relative_to(config.input_folder).as_posix()


def _shared(spec: EndpointSpec, shards: int) -> dict[str, Any]:
    """The entry of the endpoints' file for one of so many clients that use the endpoint at once."""
    return {
        "host": spec.host,
        "port": spec.port,
        "isSecure": spec.url.startswith("https"),
        "isCloudService": spec.options["cloud"],
        "concurrency": max(1, spec.concurrency // shards),
        **{key: spec.options[key] for key in ("rtf", "language", "api")},
    }


def _manifest(plan: Sequence[Shard], folder: Path, config: SpeechConfig) -> Path:
    entries = [
        {
            "ID": shard.id,
            "TASK_MODULE": TASK_FILE,
            "TASK_INPUT": _flags(shard, config),
            "INPUTS": [
                ENDPOINTS_FILE,
                f"{shard.id}.txt",
                *(f"{SOUNDS}/{_below(item, config)}" for item in shard.items),
            ],
            "RETRIES": RETRIES,
        }
        for shard in plan
    ]
    path = folder / "manifest.json"
    path.write_text(json.dumps({"TASK_MODULES": [TASK_FILE], "JOB_MANIFEST": entries}))
    return path


def _flags(shard: Shard, config: SpeechConfig) -> list[str]:
    places = ["-config", ENDPOINTS_FILE, "-input_folder", SOUNDS, "-input_list", f"{shard.id}.txt"]
    logs = ["-log_folder", "outputs/logs"] if config.log_folder is not None else []
    return [*places, "-strict_config", *logs, *_wishes(config.wishes)]


def _wishes(wishes: Wishes) -> list[str]:
    valued = {
        "-nbest": wishes.nbest,
        "-diarization": wishes.diarization.value,
        "-profanity": wishes.profanity.value,
        "-max_segment_length": wishes.max_segment,
        "--channels": wishes.channels.value,
    }
    switches = {"-sentiment": wishes.sentiment, "-resume": wishes.resume}
    return [
        "-language", *wishes.languages,
        *(word for name, value in valued.items() for word in (name, str(value))),
        *(name for name, wanted in switches.items() if wanted),
    ]  # fmt: skip


def _take_in(shard: Shard, folder: Path, result: TaskResult | None, config: SpeechConfig, merged: Merged) -> None:
    """Bring a shard's results into the output folder under the names that they have here."""
    told = {entry.get("filepath"): entry for entry in _entries(folder / "run_summary.json")}
    error = result.error if result is not None and result.error is not None else None
    for item in shard.items:
        entry = told.get(f"{SOUNDS}/{_below(item, config)}")
        if entry is None:
            reason = str(error) if error is not None else "its shard left no result"
            merged.add(_entry(item, error_type=error.type if error else "TaskFailed", failed_reason=reason))
            continue
        merged.add({**entry, "filepath": item.id, "thread": shard.id})
        with contextlib.suppress(OSError, ValueError, KeyError, IndexError):
            left = folder / item.result.relative_to(config.output_folder)
            document = json.loads(left.read_bytes())["AudioFileResults"][0]
            write_result(item.result, {**document, "AudioFileUrl": str(item.path)})
    if config.log_folder is not None and (folder / "logs").is_dir():
        shutil.copytree(folder / "logs", config.log_folder / shard.id, dirs_exist_ok=True)


def _entries(file: Path) -> Iterator[dict[str, Any]]:
    with contextlib.suppress(OSError, ValueError, KeyError):
        yield from json.loads(file.read_bytes())["processed_files"]


def _write_summary(folder: Path, merged: Merged, elapsed: float, endpoints: int) -> None:
    overall: Mapping[str, Any] = {
        "audio_stats": {
            "time_elapsed_seconds": elapsed,
            "total_decoded_seconds": merged.decoded,
            "num_endpoints": endpoints,
            "decode_ratio": merged.decoded / elapsed if elapsed > 0 else 0.0,
        },
        "file_stats": file_stats(merged.counts),
    }
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f".run_summary.json.{os.getpid()}"
    beside.write_text(json.dumps({"overall_summary": overall, "processed_files": merged.entries}, indent=2))
    beside.replace(folder / "run_summary.json")
