"""Trains a small classifier of irises and saves it where iris.json expects it: ``python train.py``.

Needs scikit-learn in the version of environment.yml: a saved model is for the version that saved it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import joblib
import sklearn
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDER = Path(__file__).parent


def main() -> None:
    wanted = (FOLDER / "environment.yml").read_text().partition("scikit-learn==")[2].split()[0]
    if sklearn.__version__ != wanted:
        sys.exit(
            f"environment.yml has scikit-learn {wanted}, here is {sklearn.__version__}: write one of them into the other"
        )
    flowers = load_iris()
    model = make_pipeline(StandardScaler(), LogisticRegression())
    accuracy = cross_val_score(model, flowers.data, flowers.target, cv=5).mean()
    model.fit(flowers.data, flowers.target)
    target = FOLDER / "model" / "iris.joblib"
    target.parent.mkdir(exist_ok=True)
    joblib.dump({"model": model, "classes": list(flowers.target_names)}, target)
    print(f"wrote {target} (accuracy {accuracy:.3f} in 5-fold cross-validation)")


if __name__ == "__main__":
    main()
