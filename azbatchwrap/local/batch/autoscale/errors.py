"""Why a formula was refused or its run failed."""

from __future__ import annotations

from typing import Final

from .syntax import Position

#: The formula is refused when it is set: HTTP 400.
SYNTAX: Final = "AutoScalingFormulaSyntaxError"
TOO_LONG: Final = "AutoScalingFormulaTooLong"
#: The run failed; the pool keeps its size and its ``autoScaleRun`` carries the error.
EVALUATION: Final = "AutoScalingFormulaEvaluationError"
INSUFFICIENT: Final = "InsufficientSampleData"

_MESSAGES: Final = {
    SYNTAX: "The specified auto-scaling formula has a syntax error.",
    TOO_LONG: "The specified auto-scaling formula exceeds the limits.",
    EVALUATION: "Autoscale evaluation failed due to an error in the formula",
    INSUFFICIENT: "Autoscale evaluation failed due to insufficient sample data",
}


class AutoscaleError(Exception):
    """A formula that cannot be set (``is_refusal``) or a run that failed.

    ``code`` and ``message`` are those of the service's error object, ``values`` its name and value pairs: one
    ``Message`` with the place. ``results`` are the results of a failed run: what the pool has already.
    """

    def __init__(self, code: str, detail: str, position: Position | None = None) -> None:
        place = f"Line {position.line}, Col {position.column}: " if position else ""
        self.code = code
        self.message = _MESSAGES[code]
        self.values = (("Message", place + detail),)
        self.results = ""
        super().__init__(f"{code}: {place}{detail}")

    @property
    def is_refusal(self) -> bool:
        """Whether the formula itself is not acceptable, whatever the samples."""
        return self.code in {SYNTAX, TOO_LONG}
