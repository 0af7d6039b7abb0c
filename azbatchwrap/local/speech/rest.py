"""The REST side: short audio (the body is the sound) and fast transcription (a form with the sound and a definition)."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import BodyPartReader, web

from azbatchwrap.local.speech.answers import Heard, Wishes, phrase, read_wishes, transcription
from azbatchwrap.local.speech.container import Container, Record
from azbatchwrap.local.speech.sound import NotSound, Segmenter, Utterance, channel, read_header

#: Short audio is short: the service refuses more (seconds).
SHORT = 60.0


@dataclass(frozen=True, slots=True)
class Recording:
    """A whole sound. ``samples``: mono PCM per channel, or nothing for compressed sound, which is not decoded."""

    seconds: float
    rate: int
    channels: int
    samples: tuple[bytes, ...] = ()

    def utterances(self, number: int) -> list[Utterance]:
        if not self.samples:
            return [Utterance(b"", self.rate, 0.0, self.seconds)]
        segmenter = Segmenter(self.rate)
        found = list(segmenter.feed(self.samples[number]))
        return found + list(segmenter.finish())


def read_recording(data: bytes, *, decoded: bool) -> Recording:
    """``decoded``: the engine listens, so it must be PCM. Raises NotSound."""
    if not data:
        raise NotSound("there is no sound in the request")
    if data.startswith(b"RIFF"):
        return _wave(data)
    if decoded:
        raise NotSound("the engine sphinx listens to WAVE (16-bit PCM) only; the engine fixed takes any format")
    return _compressed(data)


def _wave(data: bytes) -> Recording:
    found = read_header(data)
    if found is None:
        raise NotSound("the WAVE file ends before its samples")
    form, start = found
    samples = data[start:]
    parts = tuple(channel(samples, form, number) for number in range(form.channels))
    parts = tuple(part[: len(part) // 2 * 2] for part in parts)
    return Recording(len(samples) / form.bytes_per_second, form.rate, form.channels, parts)


def _compressed(data: bytes) -> Recording:
    """What the headers of a compressed sound say."""
    try:
        from tinytag import TinyTag, TinyTagException
    except ImportError as error:
        raise NotSound("compressed sound needs tinytag: pip install 'azbatchwrap[speech]'") from error
    try:
        read = TinyTag.get(filename=f"sound.{_suffix(data)}", file_obj=io.BytesIO(data), tags=False)
    except (TinyTagException, ValueError, IndexError, EOFError) as error:
        raise NotSound("this is no sound in a format we know (WAVE, MP3, FLAC, Ogg)") from error
    if not read.duration or not read.samplerate:
        raise NotSound("the sound has no length")
    return Recording(float(read.duration), int(read.samplerate), int(read.channels or 1))


def _suffix(data: bytes) -> str:
    """tinytag goes by a file's name."""
    if data[4:8] == b"ftyp":
        return "m4a"
    return {b"fLaC": "flac", b"OggS": "ogg"}.get(data[:4], "mp3" if data[:3] == b"ID3" or data[0] == 0xFF else "")


class Rest:
    """The handlers."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._decoded = container.options.engine == "sphinx"

    async def short_audio(self, request: web.Request) -> web.Response:
        """One phrase for the body's sound, in the shapes ``simple`` and ``detailed``."""
        with self._container.working("short audio", request.path) as record:
            record.wishes = read_wishes(dict(request.query), {})
            data = await request.read()
            await self._container.dawdle()
            if self._container.strikes():
                return broken(record)
            try:
                recording = read_recording(data, decoded=self._decoded)
            except NotSound as error:
                return _refused(record, "InvalidAudioFormat", str(error))
            record.seconds = recording.seconds
            if recording.seconds > SHORT:
                return _refused(record, "AudioTooLong", f"short audio is at most {SHORT:.0f} s long")
            answer = await self._first_phrase(recording, record.wishes)
            record.state = "answered"
            return web.json_response(answer)

    async def _first_phrase(self, recording: Recording, wishes: Wishes) -> dict[str, Any]:
        utterances = recording.utterances(0)
        if not utterances:
            return {"RecognitionStatus": "InitialSilenceTimeout", "Offset": 0, "Duration": 0}
        readings = await self._container.engine.understand(utterances[0])
        return phrase(utterances[0], readings, wishes)

    async def fast_transcription(self, request: web.Request) -> web.Response:
        """All phrases of the form's sound."""
        with self._container.working("fast transcription", request.path) as record:
            audio, definition = await _form(request)
            await self._container.dawdle()
            if self._container.strikes():
                return broken(record)
            try:
                asked = _definition(definition)
                recording = read_recording(audio or b"", decoded=self._decoded)
                channels = _channels(asked, recording)
            except NotSound as error:
                return _refused(record, "InvalidAudioFormat", str(error))
            except ValueError as error:
                return _refused(record, "InvalidArgument", str(error))
            record.wishes = _fast_wishes(asked)
            record.seconds = recording.seconds
            heard = [
                Heard(number, utterance, await self._container.engine.understand(utterance))
                for number in (channels if channels is not None else [0])
                for utterance in recording.utterances(number)
            ]
            record.state = "answered"
            return web.json_response(transcription(heard, recording.seconds, record.wishes, channels=channels))


async def _form(request: web.Request) -> tuple[bytes | None, bytes | None]:
    """The form's sound and definition."""
    found: dict[str, bytes] = {}
    if request.content_type == "multipart/form-data":
        reader = await request.multipart()
        while (part := await reader.next()) is not None:
            if isinstance(part, BodyPartReader) and part.name in {"audio", "definition"}:
                found[part.name] = bytes(await part.read(decode=True))
    return found.get("audio"), found.get("definition")


def _definition(text: bytes | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        read = json.loads(text)
    except ValueError as error:
        raise ValueError(f"the definition is no JSON: {error}") from error
    if not isinstance(read, dict):
        raise ValueError("the definition is no JSON object")  # noqa: TRY004  a fault of the client's text
    return read


def _channels(asked: dict[str, Any], recording: Recording) -> Sequence[int] | None:
    wanted = asked.get("channels")
    if wanted is None:
        return None
    known = range(recording.channels)
    if not isinstance(wanted, list) or not wanted or any(number not in known for number in wanted):
        raise ValueError(f"the channels must be numbers from 0 to {known[-1]}: that is what the sound has")
    return wanted


def _fast_wishes(asked: dict[str, Any]) -> Wishes:
    locales = tuple(str(name) for name in asked.get("locales") or ())
    diarization = asked.get("diarization")
    mode = str(asked.get("profanityFilterMode", "Masked")).lower()
    return Wishes(
        language=locales[0] if locales else "en-US",
        candidates=locales if len(locales) > 1 else (),
        detailed=True,
        words=True,
        # The service takes a number of speakers as the wish to tell them apart.
        speakers=isinstance(diarization, dict) and bool(diarization.get("enabled", "maxSpeakers" in diarization)),
        profanity="raw" if mode == "none" else "removed" if mode == "removed" else "masked",
    )


def broken(record: Record) -> web.Response:
    """The failure that --error-rate asks for."""
    record.state = "broken on purpose"
    return web.json_response({"code": "InternalServerError", "message": "failing as --error-rate asks"}, status=500)


def _refused(record: Record, code: str, message: str) -> web.Response:
    record.state = "refused"
    body = {"code": "InvalidRequest", "message": message, "innerError": {"code": code, "message": message}}
    return web.json_response(body, status=400)
