"""How one sound file becomes a result file: skipped when it is done, else recognised by what the endpoint speaks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azbatchwrap.batchkit import Endpoint, WorkItemProcessor, WorkItemRequest, WorkItemResult
from azbatchwrap.batchkit.workers import Processes
from azbatchwrap.errors import InvalidAudioFormatError
from azbatchwrap.speechkit import rest
from azbatchwrap.speechkit.audio import Sound, is_readable, probe
from azbatchwrap.speechkit.endpoints import LID, Api, api_of, socket_url
from azbatchwrap.speechkit.results import (
    SUCCEEDED,
    Segment,
    checksum,
    earlier_result,
    file_result,
    segment_result,
    write_result,
)
from azbatchwrap.speechkit.sdk import Recognised, SdkItem, SdkProcessor
from azbatchwrap.speechkit.wishes import Channels, Diarization, Wishes

log = logging.getLogger(__name__)

#: Beyond the time that the sound itself takes, an attempt has this long (seconds) …
BASE_LIMIT = 600.0
#: … and the sound may take so many times longer than the endpoint's real-time factor promises.
SLOWNESS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechItem(WorkItemRequest):
    """A file to transcribe. ``result``: where to; ``seconds``: its length, where its header could be read.

    ``shared``: where else the result goes, and may come from. ``output_folder``: below it ``result`` is named.
    """

    path: Path
    result: Path
    wishes: Wishes
    seconds: float | None = None
    log_file: Path | None = None
    scratch: Path | None = None
    shared: Path | None = None
    output_folder: Path


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a file before anything is sent. ``earlier``: what an earlier run left for the same content."""

    digest: str
    sound: Sound
    earlier: dict[str, Any] | None


class SpeechProcessor(WorkItemProcessor[SpeechItem]):
    """REST requests run on the event loop, the Speech SDK in worker processes."""

    def __init__(self) -> None:
        self._workers = Processes()
        self._sdk = SdkProcessor()

    def accepts(self, item: SpeechItem, endpoint: Endpoint) -> bool:
        """By language, and short audio by length."""
        api, language = api_of(endpoint), str(endpoint.options["language"]).lower()
        if item.wishes.is_multilingual:
            return language == LID and api is not Api.SHORT
        if language != item.wishes.language.lower():
            return False
        return api is not Api.SHORT or (item.seconds or 0.0) <= rest.SHORT_LIMIT

    def time_limit(self, item: SpeechItem, endpoint: Endpoint) -> float:
        factor = SLOWNESS if item.wishes.diarization is Diarization.NONE else 2 * SLOWNESS
        return BASE_LIMIT + factor * (item.seconds or 0.0) / min(1.0, float(endpoint.options["rtf"]))

    async def process(self, item: SpeechItem, endpoint: Endpoint) -> WorkItemResult:
        """Raises InvalidAudioFormatError, OSError, and what endpoints raise."""
        known = await asyncio.to_thread(_look_at, item)
        details = {"endpoint": socket_url(endpoint), "audio_duration": known.sound.seconds}
        value = str(item.result.relative_to(item.output_folder))
        if known.earlier is not None and known.earlier.get("TranscriptionStatus") == SUCCEEDED:
            log.info("%s: an earlier run has transcribed it: %s", item.id, value)
            return WorkItemResult(value=value, details=details, cached=True)
        kept, start = _resumed(item, known)
        log.info("%s: %.1f s of sound from second %.1f go to %s", item.id, known.sound.seconds, start, endpoint.name)
        recognised = await self._recognise(item, known.sound, endpoint, start)
        found = [*kept, *(segment_result(segment, item.wishes.nbest) for segment in recognised.segments)]
        if recognised.error is None or found:
            result = file_result(
                item.path, known.digest, known.sound.seconds, found,
                passed=recognised.error is None, processed=recognised.processed,
            )  # fmt: skip
            await asyncio.to_thread(_write, item, result)
        if recognised.error is not None:
            log.warning("%s: failed after %.1f s of sound: %s", item.id, recognised.processed, recognised.error)
            raise recognised.error
        log.info("%s: transcribed on %s: %s", item.id, endpoint.name, value)
        return WorkItemResult(value=value, details=details)

    async def _recognise(self, item: SpeechItem, sound: Sound, endpoint: Endpoint, start: float) -> Recognised:
        if sound.seconds - start <= 0:
            return Recognised((), sound.seconds)
        api = api_of(endpoint)
        if api is Api.SDK:
            work = SdkItem(
                id=item.id, sound=sound, wishes=item.wishes, start=start, log_file=item.log_file, scratch=item.scratch
            )
            recognised: Recognised = await self._workers.call(self._sdk, work, endpoint)
            return recognised
        segments = await self._over_rest(api, item, sound, endpoint)
        return Recognised(tuple(segments), sound.seconds)

    async def _over_rest(self, api: Api, item: SpeechItem, sound: Sound, endpoint: Endpoint) -> list[Segment]:
        if api is Api.FAST:
            return await rest.fast_transcription(sound, item.wishes, endpoint)
        if sound.seconds > rest.SHORT_LIMIT or not is_readable(sound):
            raise InvalidAudioFormatError(
                f"{item.path}: endpoints with api: short take WAVE (16-bit PCM, A-law, mu-law) of at most {rest.SHORT_LIMIT:.0f} s"
            )
        return await rest.short_audio(sound, item.wishes, endpoint)


def _look_at(item: SpeechItem) -> _Known:
    sound = probe(item.path)
    digest = checksum(item.path)
    earlier = earlier_result(item.result, digest)
    if earlier is None and item.shared is not None:
        earlier = earlier_result(item.shared, digest)
        if earlier is not None:
            write_result(item.result, earlier)
    return _Known(digest, sound, earlier)


def _write(item: SpeechItem, result: Mapping[str, Any]) -> None:
    write_result(item.result, result)
    if item.shared is not None:
        write_result(item.shared, result)


def _resumed(item: SpeechItem, known: _Known) -> tuple[list[dict[str, Any]], float]:
    """What an earlier attempt understood, and the second from which to go on."""
    apart = known.sound.channels > 1 and item.wishes.channels is Channels.SEPARATE
    if not item.wishes.resume or known.earlier is None or apart:
        return [], 0.0
    segments = known.earlier.get("SegmentResults")
    start = known.earlier.get("LastProcessedOffsetInSeconds")
    if not isinstance(segments, list) or not isinstance(start, int | float):
        return [], 0.0
    return segments, min(float(start), known.sound.seconds)
