"""The REST APIs, for endpoints that say so: fast transcription (a whole file at once) and short audio (up to 60 s)."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from azbatchwrap.batchkit import Endpoint
from azbatchwrap.errors import FailedRecognitionError, InvalidAudioFormatError
from azbatchwrap.speechkit.audio import Samples, Sound, wave_bytes
from azbatchwrap.speechkit.results import TICKS, Segment
from azbatchwrap.speechkit.wishes import Channels, Diarization, Profanity, Wishes

FAST_PATH = "/speechtotext/transcriptions:transcribe?api-version=2024-11-15"
SHORT_PATH = "/speech/recognition/conversation/cognitiveservices/v1"
#: What the services take (bytes; seconds).
FAST_LIMIT = 300 * 1024 * 1024
SHORT_LIMIT = 60.0
#: Sound shorter than this holds no word (seconds).
REMAINDER = 0.3
#: Ticks per millisecond, in which fast transcription counts.
MILLISECOND = TICKS // 1000
_FAST_PROFANITY = {Profanity.MASKED: "Masked", Profanity.RAW: "None", Profanity.REMOVED: "Removed"}


def _key(endpoint: Endpoint) -> dict[str, str]:
    subscription = endpoint.options["subscription"]
    return {"Ocp-Apim-Subscription-Key": subscription} if subscription else {}


async def fast_transcription(sound: Sound, wishes: Wishes, endpoint: Endpoint) -> list[Segment]:
    """Transcribe the file as it is, in any format that the service reads.

    Raises InvalidAudioFormatError for files that are too large, and what `Endpoint.request` raises.
    """
    data = await asyncio.to_thread(sound.path.read_bytes)
    if len(data) > FAST_LIMIT:
        raise InvalidAudioFormatError(
            f"{sound.path} has {len(data)} bytes; fast transcription takes {FAST_LIMIT}. Use an endpoint with api: sdk"
        )
    separate = sound.channels > 1 and wishes.channels is Channels.SEPARATE
    body, content_type = _form(data, _definition(sound, wishes, separate=separate))
    answer = await endpoint.request(body, path=FAST_PATH, headers={"Content-Type": content_type, **_key(endpoint)})
    try:
        phrases = answer.json()["phrases"]
        return [
            Segment(_phrase(phrase, wishes), phrase.get("locale", wishes.language), phrase.get("channel"))
            for phrase in phrases
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FailedRecognitionError(f"{endpoint.name}: the answer is no transcription: {error}") from error


def _definition(sound: Sound, wishes: Wishes, *, separate: bool) -> dict[str, Any]:
    definition: dict[str, Any] = {
        "locales": list(wishes.languages),
        "profanityFilterMode": _FAST_PROFANITY[wishes.profanity],
    }
    if separate:
        definition["channels"] = list(range(sound.channels))
    elif wishes.diarization is not Diarization.NONE:
        definition["diarization"] = {"enabled": True}  # the service refuses it together with channels
    return definition


def _form(data: bytes, definition: Mapping[str, Any]) -> tuple[bytes, str]:
    """A multipart body and its content type."""
    boundary = uuid.uuid4().hex
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="definition"\r\nContent-Type: application/json\r\n\r\n'
        f"{json.dumps(definition)}\r\n"
        f'--{boundary}\r\nContent-Disposition: form-data; name="audio"; filename="audio"\r\n'
        f"Content-Type: application/octet-stream\r\n\r\n"
    )
    return b"".join(
        (head.encode(), data, f"\r\n--{boundary}--\r\n".encode())
    ), f"multipart/form-data; boundary={boundary}"


def _phrase(phrase: Mapping[str, Any], wishes: Wishes) -> dict[str, Any]:
    """A phrase in the Speech SDK's shape. This API gives one reading, as people write it: the others are made of it."""
    text = phrase["text"]
    lexical = re.sub(r"[^\w' -]", "", text).lower()
    confidence = phrase.get("confidence", 0.0)
    words = [
        {
            "Word": word["text"],
            "Offset": word["offsetMilliseconds"] * MILLISECOND,
            "Duration": word["durationMilliseconds"] * MILLISECOND,
        }
        for word in phrase.get("words", ())
    ]
    made = {
        "RecognitionStatus": "Success",
        "Offset": phrase["offsetMilliseconds"] * MILLISECOND,
        "Duration": phrase["durationMilliseconds"] * MILLISECOND,
        "DisplayText": text,
        "NBest": [
            {
                "Confidence": confidence,
                "Lexical": lexical,
                "ITN": lexical,
                "MaskedITN": lexical,
                "Display": text,
                "Words": words,
            }
        ],
    }
    if wishes.diarization is not Diarization.NONE and "speaker" in phrase:
        made["SpeakerId"] = str(phrase["speaker"])
    return made


async def short_audio(sound: Sound, wishes: Wishes, endpoint: Endpoint) -> list[Segment]:
    """Transcribe a plain WAVE file of at most 60 s, channel by channel.

    The service answers with the first phrase it finds, so what follows it is sent again until nothing is left.
    """
    separate = sound.channels > 1 and wishes.channels is Channels.SEPARATE
    segments: list[Segment] = []
    for channel in range(sound.channels) if separate else [None]:
        at = 0.0
        while sound.seconds - at > REMAINDER:
            phrase = await _first_phrase(sound, channel, at, wishes, endpoint)
            if phrase is None:
                break
            if phrase.get("RecognitionStatus") == "Success":
                segments.append(Segment(phrase, wishes.language, channel, at))
            at += max(REMAINDER, (phrase.get("Offset", 0) + phrase.get("Duration", 0)) / TICKS)
    return segments


async def _first_phrase(
    sound: Sound, channel: int | None, start: float, wishes: Wishes, endpoint: Endpoint
) -> Mapping[str, Any] | None:
    """The first phrase after second ``start``; ``None`` when there is none."""
    query = urlencode(
        {
            "language": wishes.language,
            "format": "detailed",
            "profanity": wishes.profanity.value.lower(),
            "wordLevelTimestamps": "true",
        }
    )
    body = await asyncio.to_thread(_slice, sound, channel, start)
    headers = {"Content-Type": f"audio/wav; codecs=audio/pcm; samplerate={sound.rate}", "Accept": "application/json"}
    answer = await endpoint.request(body, path=f"{SHORT_PATH}?{query}", headers={**headers, **_key(endpoint)})
    try:
        phrase = answer.json()
        status = phrase["RecognitionStatus"]
    except (ValueError, KeyError, TypeError) as error:
        raise FailedRecognitionError(f"{endpoint.name}: the answer is no phrase: {error}") from error
    if status == "Error":
        raise FailedRecognitionError(f"{endpoint.name}: the service could not recognise this: {answer.body[:200]!r}")
    if not isinstance(phrase, dict) or status not in {"Success", "NoMatch"}:
        return None
    return phrase


def _slice(sound: Sound, channel: int | None, start: float) -> bytes:
    reader = Samples(sound, channel, start)
    try:
        return wave_bytes(reader.read(2 * round(SHORT_LIMIT + 1) * sound.rate), sound.rate)
    finally:
        reader.close()
