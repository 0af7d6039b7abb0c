"""Scores CSV files of flowers: init() once per process, run() for every few files. The columns are those of data/."""

from __future__ import annotations

import csv
import os
from pathlib import Path

loaded = {}


def init() -> None:
    import joblib

    path = next(Path(os.environ["AZUREML_MODEL_DIR"]).rglob("*.joblib"))
    loaded.update(joblib.load(path))


def run(mini_batch: list[str]) -> list[str]:
    """One line per flower: file, number, class, probability, apart by blanks."""
    lines = []
    for file in mini_batch:
        with open(file, newline="", encoding="utf-8") as stream:  # noqa: PTH123
            rows = [[float(value) for value in row.values()] for row in csv.DictReader(stream)]
        chances = loaded["model"].predict_proba(rows)
        for number, chance in enumerate(chances, 1):
            best = int(chance.argmax())
            lines.append(f"{Path(file).name} {number} {loaded['classes'][best]} {chance[best]:.3f}")
    return lines
