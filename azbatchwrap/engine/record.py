"""``result.json``: what became of a task, kept true at every moment so that even a kill leaves a readable record.

The shape is ``{"version": 1, "job", "task", "node", "state", "attempts", "value" | "repr", "steps": [{"name", "state",
"started", "seconds", "value" | "repr", "error": {"type", "message", "traceback"}}], "outputs": [...]}``.
States are ``running``, ``succeeded`` and ``failed``. ``value`` is the return value where JSON holds it without loss,
else ``repr`` is its representation. ``outputs`` are paths below the output folder.
"""

# The record is written before the first do_action, so it imports late and does without pathlib.

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .facts import Facts

RUNNING, SUCCEEDED, FAILED = "running", "succeeded", "failed"

#: A representation or message longer than this many characters is cut: it is for people to read.
TEXT_LIMIT = 100_000
#: JSON readers of other languages, and orjson, hold integers of 64 bits.
SMALLEST_INTEGER, LARGEST_INTEGER = -(2**63), 2**64 - 1


class Step:
    """One run of one task file. ``outcome`` is the JSON of its value, representation or error, once it has ended."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = RUNNING
        self.started = _now()
        self.begun = time.monotonic()
        self.seconds = 0.0
        self.outcome = ""

    def end(self, state: str, outcome: str) -> None:
        self.state = state
        self.seconds = time.monotonic() - self.begun
        self.outcome = outcome

    def json(self) -> str:
        head = f'{{"name":{_quote(self.name)},"state":"{self.state}","started":"{self.started}"'
        return f'{head},"seconds":{self.seconds:.6f}{self.outcome}}}'


class Record:
    """The result of one attempt at a task, written beside ``result.json`` and renamed over it."""

    def __init__(self, facts: Facts, attempt: int = 1) -> None:
        self._facts = facts
        self._attempt = attempt
        self._steps: list[Step] = []
        self._value = ""

    def begin(self, name: str) -> Step:
        """Start a step, and say so in the file: should it take the process down, the file still names it."""
        step = Step(name)
        self._steps.append(step)
        self._write(RUNNING)
        return step

    def last_step(self) -> Step:
        return self._steps[-1]

    def succeed(self, step: Step, value: Any) -> str | None:
        """Record a return value. The answer says why JSON cannot hold it, when that is so."""
        outcome, obstacle = encode(value)
        step.end(SUCCEEDED, outcome)
        self._value = outcome
        return obstacle

    def fail(self, step: Step, kind: str, message: str, traceback: str, further: str = "") -> None:
        """Record how a step failed. ``further`` fields are JSON with a comma in front."""
        self._value = ""
        fields = f'"type":{_quote(kind)},"message":{_quote(message)},"traceback":{_quote(traceback)}{further}'
        step.end(FAILED, f',"error":{{{fields}}}')

    def close(self, outputs: list[str]) -> None:
        """Write the final state."""
        failed = any(step.state == FAILED for step in self._steps)
        self._write(FAILED if failed else SUCCEEDED, outputs)

    def _write(self, state: str, outputs: list[str] | None = None) -> None:
        facts = self._facts
        beside = facts.result_path + ".part"
        listed = ",".join(map(_quote, outputs or ()))
        with open(beside, "wb") as file:
            file.write(
                f'{{"version":1,"job":{_quote(facts.job_id)},"task":{_quote(facts.task_id)},'
                f'"node":{_quote(facts.node_id)},"state":"{state}","attempts":{self._attempt}'.encode()
            )
            file.write(self._value.encode())
            file.write(b',"steps":[')
            file.writelines(
                (b"," if position else b"") + step.json().encode() for position, step in enumerate(self._steps)
            )
            file.write(f'],"outputs":[{listed}]}}\n'.encode())
        os.rename(beside, facts.result_path)


def close_after_death(facts: Facts, attempt: int, kind: str, message: str, traceback: str) -> None:
    """Complete the record of an attempt whose process ended without doing so: the step that ran has failed."""
    import json

    try:
        with open(facts.result_path, encoding="utf-8") as file:
            steps = json.load(file)["steps"]
    except (OSError, ValueError, KeyError):
        steps = []
    record = Record(facts, attempt)
    for found in steps or [{"name": facts.module, "state": RUNNING}]:
        step = Step(found["name"])
        step.started = found.get("started", step.started)
        record._steps.append(step)  # noqa: SLF001 - the same module
        if found["state"] == SUCCEEDED:
            step.state, step.seconds = SUCCEEDED, found["seconds"]
            step.outcome = "".join(f',"{key}":{json.dumps(found[key])}' for key in ("value", "repr") if key in found)
        else:
            record.fail(step, kind, message, traceback)
            step.seconds = max(0.0, time.time() - _seconds_of(step.started))
    record.close(list_outputs(facts.output_folder))


def is_final(facts: Facts, attempt: int) -> bool:
    """Whether the record says how this attempt ended."""
    import json

    try:
        with open(facts.result_path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return False
    return found.get("attempts") == attempt and found.get("state") in (SUCCEEDED, FAILED)


def encode(value: Any) -> tuple[str, str | None]:
    """``,"value":…`` or ``,"repr":…``, and in the second case why JSON cannot hold the value."""
    import json

    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
        obstacle = _loss(value)
    except (TypeError, ValueError, RecursionError) as error:
        text, obstacle = "", str(error) or type(error).__name__
    if obstacle is None:
        return f',"value":{text}', None
    return f',"repr":{_quote(shown(value))}', obstacle


def _loss(value: Any) -> str | None:
    """What JSON would change without saying so: keys that are not text, and integers beyond 64 bits.

    ``value`` has been through json.dumps, so it has no cycles.
    """
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            odd = next((key for key in part if not isinstance(key, str)), None)
            if odd is not None or None in part:
                return f"a dict has the key {odd!r}, which is not text"
            waiting.extend(part.values())
        elif isinstance(part, (list, tuple)):
            waiting.extend(part)
        elif isinstance(part, int) and not SMALLEST_INTEGER <= part <= LARGEST_INTEGER:
            return "an integer needs more than 64 bits"
    return None


def shown(value: Any) -> str:
    """``repr(value)``, cut where it is too long, and something in its place where it fails."""
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - a value's own repr may raise anything
        return f"<{type(value).__name__} whose repr raises {type(error).__name__}>"
    return cut(text)


def cut(text: str) -> str:
    """``text``, or the beginning of a long one with a note of how much is missing."""
    return text if len(text) <= TEXT_LIMIT else f"{text[:TEXT_LIMIT]}… [{len(text) - TEXT_LIMIT} more characters]"


def list_outputs(folder: str) -> list[str]:
    """The files below ``folder`` that the service uploads, as sorted relative paths: none with a leading dot."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = os.path.relpath(parent, folder)
        found += [os.path.normpath(os.path.join(below, name)) for name in names if not name.startswith(".")]
    return sorted(found)


def _quote(text: str) -> str:
    """``text`` as a JSON string; what UTF-8 cannot hold (names that are no valid text) is shown as an escape."""
    try:
        from _json import encode_basestring_ascii
    except ImportError:
        from json.encoder import encode_basestring_ascii
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode()
    return encode_basestring_ascii(text)


def _now() -> str:
    now = time.time()
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1000):03d}Z"


def _seconds_of(started: str) -> float:
    from calendar import timegm

    return timegm(time.strptime(started[:19], "%Y-%m-%dT%H:%M:%S")) + int(started[20:23]) / 1000


def describe(error: BaseException) -> tuple[str, str, str]:
    """Type, message and traceback of an error; the traceback starts at the task's own code."""
    import traceback

    engine = os.path.dirname(os.path.abspath(__file__))
    frame = error.__traceback__
    while frame is not None and os.path.dirname(frame.tb_frame.f_code.co_filename) in (engine, ""):
        frame = frame.tb_next
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - an error's own str may raise anything
        message = shown(error)
    lines = traceback.format_exception(type(error), error, frame)
    return type(error).__qualname__, cut(message), cut("".join(lines))


def say(text: str) -> None:
    """One line for the task's log (its stderr), with the time."""
    sys.stderr.write(f"{_now()} azbatchwrap: {text}\n")
    sys.stderr.flush()
