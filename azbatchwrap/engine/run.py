"""Runs one task: a small parent process watches over a child that runs the steps.

The parent stays free of the steps' code. So it can end a step that is stuck in C code, tell a kill from a return,
write the record that a dead step could not, and start each further attempt in a fresh copy of itself: modules,
globals, environment, working folder and threads are as before the first attempt. Files are not: what an attempt left
in the working folder and in ``outputs/`` is there for the next one to see, continue or replace.

Exit codes: 0 all steps succeeded; 1 a step raised; n from ``sys.exit(n)`` or ``os._exit(n)``; 124 the time was over;
128 + n killed by signal n. ``sys.exit()`` and ``sys.exit(0)`` end a step as a return of None does.
"""

# Everything up to the first do_action counts: what is not needed before it is imported later.

from __future__ import annotations

import _signal as signals  # type: ignore[import-not-found] # signal itself imports enum
import os
import sys
import time

from . import chain, record
from .api import Engine
from .facts import Facts, import_folders
from .record import Record, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

TIMED_OUT = 124
INTERRUPTED = 130
#: Seconds between the stack being dumped at the end of the time and the kill: time to write it.
DUMP_TIME = 0.25
#: The pause before attempt n + 1 is ``RETRY_PAUSE * 2 ** n`` seconds, at most `LONGEST_PAUSE`.
RETRY_PAUSE, LONGEST_PAUSE = 0.1, 10.0
#: The child's last word to its parent, before the exit code: the record is complete.
DONE = "azbatchwrap-done"
#: As `DONE`, after an exception that no further attempt is made for.
FINAL = "azbatchwrap-final"


def run() -> int:
    """Run the task that the environment describes, in the current folder. Returns its exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A log must show a line when it is printed, and must never be the reason why a task fails.
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]
    deployment = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    facts = Facts(os.environ, os.getcwd(), deployment)
    try:
        facts.read_orders(os.environ)
        facts.lay_out_inputs()
        import_folders(facts)
    except Exception as error:  # noqa: BLE001 - whatever it is, the client reads it in the record
        return _fail_before_start(facts, error)
    return _Watch(facts).run()


def _fail_before_start(facts: Facts, error: Exception) -> int:
    kind, message, traceback = record.describe(error)
    say(f"the task cannot start: {message}")
    result = Record(facts)
    result.fail(result.begin(facts.module or "start"), kind, message, traceback)
    result.close([])
    return 1


class _Watch:
    """The parent: forks one child per attempt, ends it when its time is over, and sees how it ended."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._deadline = None if facts.timeout is None else time.monotonic() + facts.timeout
        self._child = 0
        self._timed_out = False
        self._stopped_by = 0
        self._final = False

    def run(self) -> int:
        """The exit code of the last attempt. In a child, this returns too: with the code of its own attempt."""
        for attempt in range(1, self._facts.retries + 2):
            reader, writer = os.pipe()
            sys.stdout.flush()
            try:
                self._child = os.fork()
            except OSError as error:
                return _fail_before_start(self._facts, error)
            if self._child == 0:
                os.close(reader)
                return _Attempt(self._facts, attempt, writer).run(self._deadline)
            os.close(writer)
            self._listen()
            status = os.waitpid(self._child, 0)[1]
            self._child = 0
            code = self._judge(attempt, status, _read_report(reader))
            if not self._again(code, attempt):
                return code
        return code

    def _listen(self) -> None:
        """Catch what ends the task from outside, so that its record is still written."""
        for number in (signals.SIGTERM, signals.SIGINT):
            signals.signal(number, self._stop)
        if self._deadline is not None:
            signals.signal(signals.SIGALRM, self._expire)
            left = self._deadline - time.monotonic() + DUMP_TIME
            signals.setitimer(signals.ITIMER_REAL, max(left, DUMP_TIME))

    def _stop(self, number: int, _frame: object) -> None:
        self._stopped_by = number
        # A terminal sends an interrupt to the child itself; who terminates a task may mean this process alone.
        if self._child and number == signals.SIGTERM:
            _kill(self._child, number)

    def _expire(self, _number: int, _frame: object) -> None:
        from .processes import kill_descendants

        self._timed_out = True
        kill_descendants()

    def _judge(self, attempt: int, status: int, report: str) -> int:
        """The exit code of an attempt; completes the record when the child could not."""
        words = report.rsplit(None, 2)
        if len(words) >= 2 and words[-2] in (DONE, FINAL):
            self._final = words[-2] == FINAL
            return int(words[-1])
        if os.WIFEXITED(status) and record.is_final(self._facts, attempt):
            return os.WEXITSTATUS(status)
        code, kind, message = self._death(status)
        say(f"attempt {attempt}: {message}")
        engine = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        stack = "\n".join(line for line in report.splitlines() if engine not in line)
        record.close_after_death(self._facts, attempt, kind, message, record.cut(stack))
        return code

    def _death(self, status: int) -> tuple[int, str, str]:
        if self._timed_out:
            return TIMED_OUT, "TimeoutError", f"the task ran past its limit of {self._facts.timeout:g} s"
        if os.WIFSIGNALED(status):
            from signal import Signals

            number = os.WTERMSIG(status)
            name = Signals(number).name if number in set(Signals) else "unnamed"
            hint = ": the node's memory may have run out" if name == "SIGKILL" else ""
            return 128 + number, "KilledBySignal", f"the step was killed by signal {number} ({name}){hint}"
        code = os.WEXITSTATUS(status)
        message = f"the step ended the interpreter with exit code {code} instead of returning"
        return code or 1, "ProcessExit", message

    def _again(self, code: int, attempt: int) -> bool:
        """Whether the failed attempt is followed by another; waits a little before it."""
        codes = self._facts.retry_exit_codes
        if code == 0 or attempt > self._facts.retries or (codes is not None and code not in codes) or self._final:
            return False
        if not (self._timed_out or self._stopped_by):
            say(f"attempt {attempt} failed with exit code {code}; {self._facts.retries + 1 - attempt} left")
            time.sleep(min(RETRY_PAUSE * 2**attempt, LONGEST_PAUSE))
        # The time may also end during the pause.
        return not (self._timed_out or self._stopped_by)


class _Attempt:
    """The child: runs the steps one after the other and records each."""

    def __init__(self, facts: Facts, attempt: int, report: int) -> None:
        self._facts = facts
        self._record = Record(facts, attempt)
        self._engine = Engine(facts, attempt)
        self._report = report
        self._process = os.getpid()
        self._last_word = DONE

    def run(self, deadline: float | None) -> int:
        """Run the chain; returns the exit code, which the parent has been told by then."""
        for number in (signals.SIGTERM, signals.SIGALRM):
            signals.signal(number, signals.SIG_DFL)
        signals.signal(signals.SIGINT, signals.default_int_handler)
        if deadline is not None:
            import faulthandler

            # Written by a C thread, so it comes even when the step never gives the interpreter back.
            faulthandler.dump_traceback_later(max(deadline - time.monotonic(), 0.001), file=self._report)
        code = self._run_chain()
        if os.getpid() != self._process:
            # A step forked and let the copy return: only the original may write the record.
            return code
        if deadline is not None:
            faulthandler.cancel_dump_traceback_later()
        self._tell(code)
        return code

    def _tell(self, code: int) -> None:
        try:
            os.write(self._report, f"\n{self._last_word} {code}".encode())
        except OSError:
            # A step closed every file that it did not know; the parent will read the record instead.
            return

    def _run_chain(self) -> int:
        facts = self._facts
        if facts.function is not None or facts.serve is not None:
            return self._run_function()
        try:
            modules = chain.files_to_run(facts.tasks_folder, facts.module, chain=facts.chain)
        except FileNotFoundError as error:
            return self._close(self._fail(self._record.begin(facts.module), error))
        value: Any = None
        code = 0
        for position, module in enumerate(modules):
            step = self._record.begin(module)
            self._engine.begin_step(module)
            try:
                do_action = chain.load_do_action(facts.tasks_folder, module)
                if position == 0:
                    arguments = chain.first_arguments(do_action, facts.args, whole=facts.whole)
                else:
                    arguments = chain.next_arguments(do_action, value)
                value = _call(do_action, self._engine, arguments)
            except BaseException as error:  # noqa: BLE001 - whatever a step raises is its recorded result
                code = self._fail(step, error)
                break
            self._succeed(step, value)
            os.chdir(facts.working_folder)
        return self._close(code)

    def _run_function(self) -> int:
        from . import function

        facts = self._facts
        name = facts.function["name"] if facts.function else facts.module
        step = self._record.begin(name)
        self._engine.begin_step(name)
        code = 0
        try:
            value = function.call(facts) if facts.function else _serve(facts)
        except BaseException as error:  # noqa: BLE001 - whatever a function raises is its recorded result
            if not function.is_retried(error, facts.retry_exceptions):
                self._last_word = FINAL
            code = self._fail(step, error, function.origin(error))
        else:
            self._succeed(step, value)
            os.chdir(facts.working_folder)
        code = self._close(code)
        facts.keep_logs()
        return code

    def _succeed(self, step: record.Step, value: Any) -> None:
        obstacle = self._record.succeed(step, value)
        if obstacle:
            kind = type(value).__name__
            say(f"{step.name} returned a {kind} that JSON cannot hold ({obstacle}); result.json has its repr")

    def _fail(self, step: record.Step, error: BaseException, further: str = "") -> int:
        kind, message, traceback = record.describe(error)
        self._record.fail(step, kind, message, traceback, further)
        sys.stdout.flush()
        sys.stderr.write(traceback)
        sys.stderr.flush()
        if isinstance(error, SystemExit):
            # An exit code has eight bits, and a failed step must not look like success.
            return ((error.code & 0xFF) or 1) if isinstance(error.code, int) else 1
        return INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1

    def _close(self, code: int) -> int:
        """Wait for the steps' threads, as the end of a script does, and write the final record."""
        if os.getpid() != self._process:
            return code
        if "threading" in sys.modules:
            import threading

            for thread in threading.enumerate():
                if thread is not threading.current_thread() and not thread.daemon:
                    thread.join()
        taken = self._engine.set_reserved_aside()
        if taken and code == 0:
            message = f"outputs/{taken[0]} has a name that the task's own record takes; it was kept as {taken[1]}"
            code = self._fail(self._record.last_step(), ValueError(message))
        self._record.close(record.list_outputs(self._facts.output_folder))
        return code


def _serve(facts: Facts) -> Any:
    from .serve import serve

    return serve(facts)


def _call(do_action: Any, engine: Engine, arguments: Sequence[Any]) -> Any:
    try:
        return chain.finished(do_action(engine, *arguments))
    except SystemExit as end:
        if end.code in (None, 0):
            return None
        raise


def _kill(process: int, number: int) -> None:
    try:
        os.kill(process, number)
    except ProcessLookupError:
        return


def _read_report(reader: int) -> str:
    """What the child wrote. Never waits: processes the step left behind may hold the other end open."""
    os.set_blocking(reader, False)
    parts = []
    try:
        while True:
            part = os.read(reader, 65536)
            if not part:
                break
            parts.append(part)
    except BlockingIOError:
        pass
    os.close(reader)
    return b"".join(parts).decode("utf-8", "backslashreplace").strip()
