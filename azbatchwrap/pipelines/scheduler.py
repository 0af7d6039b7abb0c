"""Runs jobs that need each other, some at a time; after a failure nothing more begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

#: Writes at a time: Azure counts them per subscription.
WORKERS = 4


def run(
    jobs: Mapping[str, Callable[[], None]], needs: Mapping[str, AbstractSet[str]], stop: Callable[[], None]
) -> None:
    """Run every job once those it needs (of ``jobs``) are done.

    The first failure is raised when the jobs that run have ended. On Ctrl-C ``stop`` is called, so that they end soon.
    """
    waiting = dict(jobs)
    done: set[str] = set()
    running: dict[Future[None], str] = {}
    failure: BaseException | None = None
    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            while running or (waiting and failure is None):
                ready = [key for key in waiting if needs.get(key, set()) & jobs.keys() <= done]
                # No more than can run: what is only submitted would still begin after a failure.
                for key in ready[: WORKERS - len(running)] if failure is None else ():
                    running[pool.submit(waiting.pop(key))] = key
                assert running, f"{', '.join(waiting)} need each other"
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    done.add(running.pop(future))
                    failure = failure or future.exception()
        except KeyboardInterrupt:
            stop()
            raise
    if failure is not None:
        raise failure
