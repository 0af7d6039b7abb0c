"""What the stand-in answers: phrases as the speech service writes them, simple or detailed, and fast transcription's."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from azbatchwrap.local.speech.engines import Reading
from azbatchwrap.local.speech.sound import Utterance
from azbatchwrap.local.speech.usp import ticks

Profanity = Literal["masked", "raw", "removed"]
#: The words that the stand-in takes for profane: enough to try the setting.
PROFANE = re.compile(r"\b(?:damn|damned|bloody|hell)\b", re.IGNORECASE)
#: The stand-in tells no voices apart: utterances come from so many speakers by turns, and in the languages asked for.
SPEAKERS = 2
#: Nor does it feel anything.
SENTIMENT = {"Negative": 0.1, "Neutral": 0.8, "Positive": 0.1}


@dataclass(frozen=True, slots=True)
class Wishes:
    """How a client wants its phrases."""

    language: str = "en-US"
    candidates: tuple[str, ...] = ()
    detailed: bool = False
    words: bool = False
    sentiment: bool = False
    speakers: bool = False
    profanity: Profanity = "masked"


def read_wishes(query: Mapping[str, str], context: Mapping[str, Any]) -> Wishes:
    """From the query of the request and the ``speech.context`` message: both can carry every setting."""
    asked = {name.lower(): value for name, value in query.items()}
    output, detection = _object(context, "phraseOutput"), _object(context, "phraseDetection")
    options = json.dumps(_object(output, "detailed").get("options", [])) + asked.get(
        "speechcontext-phraseoutput.detailed.options", ""
    )
    forms = (asked.get("format"), asked.get("speechcontext-phraseoutput.format"), output.get("format"))
    profanity = str(_object(_object(context, "phraseDetection"), "enrichment").get("profanity", "")) or asked.get(
        "profanity", ""
    )
    mode = asked.get("speechcontext-phrasedetection.speakerdiarization.mode") or _object(
        detection, "speakerDiarization"
    ).get("mode", "None")
    languages = _object(context, "languageId").get("languages", [])
    return Wishes(
        language=asked.get("language", "en-US"),
        candidates=tuple(str(name) for name in languages if isinstance(languages, list)),
        detailed=any(str(form).lower() == "detailed" for form in forms),
        words=asked.get("wordleveltimestamps", "").lower() == "true" or "WordTimings" in options,
        sentiment="Sentiment" in options,
        speakers=str(mode).lower() in {"identity", "anonymous"},
        profanity=_profanity(profanity),
    )


def _object(holder: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = next((value for key, value in holder.items() if key.lower() == name.lower()), None)
    return found if isinstance(found, dict) else {}


def _profanity(text: str) -> Profanity:
    known: dict[str, Profanity] = {"raw": "raw", "removed": "removed"}
    return known.get(text.lower(), "masked")


def cleaned(text: str, profanity: Profanity) -> str:
    """``text`` without its profane words, or with asterisks in their place."""
    if profanity == "raw":
        return text
    replace: Callable[[re.Match[str]], str] = (
        (lambda found: "*" * len(found.group())) if profanity == "masked" else (lambda _: "")
    )
    return " ".join(PROFANE.sub(replace, text).split())


def phrase(utterance: Utterance, readings: Sequence[Reading], wishes: Wishes, *, number: int = 0) -> dict[str, Any]:
    """One recognised phrase, as in ``speech.phrase`` messages and in the answer of REST short audio.

    ``number``: how many came before it.
    """
    made: dict[str, Any] = {
        "Id": uuid.uuid4().hex,
        "RecognitionStatus": "Success" if readings else "NoMatch",
        "Offset": ticks(utterance.offset),
        "Duration": ticks(utterance.duration),
        "Channel": 0,
    }
    if wishes.speakers:
        made["SpeakerId"] = f"Guest-{number % SPEAKERS + 1}"
    if wishes.candidates:
        made["PrimaryLanguage"] = {"Language": _language(wishes, number), "Confidence": "High"}
    if readings:
        made["DisplayText"] = cleaned(readings[0].text, wishes.profanity)
        if wishes.detailed:
            made["NBest"] = [_detailed(utterance, reading, wishes) for reading in readings]
    return made


def _language(wishes: Wishes, number: int) -> str:
    return wishes.candidates[number % len(wishes.candidates)] if wishes.candidates else wishes.language


def _detailed(utterance: Utterance, reading: Reading, wishes: Wishes) -> dict[str, Any]:
    lexical = re.sub(r"[^\w' -]", "", reading.text).lower()
    made: dict[str, Any] = {
        "Confidence": reading.confidence,
        "Lexical": lexical,
        "ITN": lexical,
        "MaskedITN": cleaned(lexical, wishes.profanity),
        "Display": cleaned(reading.text, wishes.profanity),
    }
    if wishes.sentiment:
        made["Sentiment"] = SENTIMENT
    if wishes.words:
        made["Words"] = [
            {
                "Word": re.sub(r"[^\w'-]", "", word.text).lower(),
                "Offset": ticks(utterance.offset + word.offset),
                "Duration": ticks(word.duration),
                "Confidence": reading.confidence,
            }
            for word in reading.words
        ]
    return made


@dataclass(frozen=True, slots=True)
class Heard:
    """An utterance, the channel it came from and how it was understood."""

    channel: int
    utterance: Utterance
    readings: Sequence[Reading]


def transcription(
    heard: Sequence[Heard], seconds: float, wishes: Wishes, *, channels: Sequence[int] | None
) -> dict[str, Any]:
    """The answer of the fast transcription API. ``channels``: those asked for one by one, else they are one sound."""
    told = [item for item in heard if item.readings]
    combined = [
        {
            **({"channel": number} if channels is not None else {}),
            "text": " ".join(
                cleaned(item.readings[0].text, wishes.profanity) for item in told if item.channel == number
            ),
        }
        for number in (channels if channels is not None else [0])
    ]
    return {
        "durationMilliseconds": round(seconds * 1000),
        "combinedPhrases": combined,
        "phrases": [
            _fast_phrase(item, wishes, number, with_channel=channels is not None) for number, item in enumerate(told)
        ],
    }


def _fast_phrase(item: Heard, wishes: Wishes, number: int, *, with_channel: bool) -> dict[str, Any]:
    best = item.readings[0]
    start = item.utterance.offset
    return {
        **({"channel": item.channel} if with_channel else {}),
        **({"speaker": number % SPEAKERS + 1} if wishes.speakers else {}),
        "offsetMilliseconds": round(start * 1000),
        "durationMilliseconds": round(item.utterance.duration * 1000),
        "text": cleaned(best.text, wishes.profanity),
        "words": [
            {
                "text": word.text,
                "offsetMilliseconds": round((start + word.offset) * 1000),
                "durationMilliseconds": round(word.duration * 1000),
            }
            for word in best.words
        ],
        "locale": _language(wishes, number),
        "confidence": best.confidence,
    }
