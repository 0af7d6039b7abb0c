"""What a benchmark reports, and how the report is printed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Figure:
    """One comparison. ``ratio`` is ours against theirs as the target states it, ``target`` its bound."""

    name: str
    ours: str
    theirs: str
    ratio: float
    target: float
    sense: Literal[">=", "<="] = ">="
    note: str = ""

    @property
    def met(self) -> bool:
        return self.ratio >= self.target if self.sense == ">=" else self.ratio <= self.target

    def line(self) -> str:
        verdict = "met" if self.met else "MISSED"
        tail = f"  ({self.note})" if self.note else ""
        return (
            f"{self.name}: {self.ours} | {self.theirs} | ratio {self.ratio:.2f} "
            f"(asked {self.sense} {self.target:g}: {verdict}){tail}"
        )
