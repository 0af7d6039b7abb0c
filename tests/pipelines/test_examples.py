"""The examples, and model deployments."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from azbatchwrap.pipelines import settings
from azbatchwrap.pipelines.settings import SCORING_FOLDER
from tests.pipelines.conftest import SUBSCRIPTION, Driver

EXAMPLES = Path(__file__).parents[2] / "examples" / "batchcreate"

SCORER = """
import json, os
from pathlib import Path
def init():
    global weights
    weights = json.loads(next(Path(os.environ["AZUREML_MODEL_DIR"]).rglob("weights.json")).read_text())
def run(mini_batch):
    return [f"{Path(file).name} {weights['factor'] * float(Path(file).read_text())} of {len(mini_batch)}"
            for file in mini_batch]
"""


def use_example(driver: Driver, file: Path) -> None:
    """Make the driver's configuration that of the example, in a copy, with names of the test's own."""
    own: dict[str, Any] = driver.values()
    shutil.rmtree(driver.folder / "batch")
    shutil.copytree(file.parent, driver.folder, dirs_exist_ok=True)
    names = {
        name: own[name] for name in ("subid", "resourceGroup", "workspace", "source_container", "result_container")
    }
    driver.file.write_text(json.dumps(json.loads(file.read_text()) | names))


def test_the_text_example_scores(driver: Driver) -> None:
    use_example(driver, EXAMPLES / "batchconfiguration.json")
    said = driver.run("-config", str(driver.file))
    assert said.code == 0, said.err
    assert "create    container registry" in said.out
    invoked = driver.on("invoke", "--wait", "--download", str(driver.folder / "out"), "--json")
    assert invoked.code == 0, invoked.err
    assert (driver.folder / "out" / "Results.txt").read_text().split() == ["line,score", "1,2", "2,-3", "3,0", "4,0"]


def test_the_examples_configurations_lack_a_subscription_and_nothing_else() -> None:
    file = EXAMPLES / "batchconfiguration.json"
    with pytest.raises(settings.ConfigurationError, match=r"^subid .* placeholder"):
        settings.load(file)
    assert settings.load(file, flags={"subid": SUBSCRIPTION}).schedule_frequency == "Day"


@pytest.mark.parametrize(
    "script", [SCORING_FOLDER / "batch.py", EXAMPLES / "batch" / "batch.py"], ids=["own", "example"]
)
def test_scripts_write_into_a_folder_that_is_there_already(script: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "data.txt").write_text("good\n")
    for _ in range(2):
        subprocess.run([sys.executable, str(script), str(tmp_path / "data.txt"), str(tmp_path / "out")], check=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["Results.txt"]


@pytest.fixture
def model(driver: Driver) -> Driver:
    """A model deployment over three files."""
    for name in ("code", "model", "data"):
        (driver.folder / name).mkdir()
    (driver.folder / "code" / "score.py").write_text(SCORER)
    (driver.folder / "model" / "weights.json").write_text('{"factor": 2}')
    for number in range(3):
        (driver.folder / "data" / f"{number} é.txt").write_text(str(number))
    driver.edit(score_script="code/score.py", model="model", data="data", mini_batch_size=2, pipeline_name="weights")
    return driver


def test_a_model_is_deployed_scores_in_mini_batches_and_changes(model: Driver) -> None:
    model.apply()
    assert model.planned() == {}
    out = model.folder / "out"
    said = model.on("invoke", "--wait", "--download", str(out), "--json")
    assert said.code == 0, said.err
    lines = sorted((out / "predictions.csv").read_text().splitlines())
    assert lines == ["0 é.txt 0.0 of 2", "1 é.txt 2.0 of 2", "2 é.txt 4.0 of 1"]
    assert model.on("outputs", "--json").json["model_version"].startswith("h-")

    (model.folder / "model" / "weights.json").write_text('{"factor": 3}')
    (model.folder / "data" / "1 é.txt").unlink()
    assert model.planned() == {"data": "update", "model files": "create", "model": "update", "deployment": "update"}
    model.apply()
    assert model.planned() == {}
    assert model.on("invoke", "--wait", "--download", str(out)).code == 0
    assert sorted((out / "predictions.csv").read_text().splitlines()) == ["0 é.txt 0.0 of 2", "2 é.txt 6.0 of 2"]
    single = model.folder / "single.txt"
    single.write_text("5")
    one = model.on("invoke", "--input", str(single), "--wait", "--download", str(out))
    assert one.code == 0, one.err
    assert (out / "predictions.csv").read_text().splitlines() == ["single.txt 15.0 of 1"]
    (model.folder / "data" / "bad.txt").write_text("no number")
    failed = model.on("invoke", "--input", str(model.folder / "data"), "--wait")
    assert failed.code == 1
    assert "could not convert string to float" in failed.err
    assert model.on("destroy", "--yes", "--purge").code == 0
    assert model.resources() == {}


def test_the_iris_example_scores(driver: Driver) -> None:
    """Needs scikit-learn here, and installs it again for the job: a minute that only who changes the example spends."""
    wanted = (EXAMPLES / "iris" / "environment.yml").read_text().partition("scikit-learn==")[2].split()[0]
    if pytest.importorskip("sklearn").__version__ != wanted:
        pytest.skip(f"needs scikit-learn {wanted}, as its environment has")
    use_example(driver, EXAMPLES / "iris" / "iris.json")
    subprocess.run([sys.executable, str(driver.folder / "train.py")], check=True)
    driver.apply()
    said = driver.on("invoke", "--wait", "--download", str(driver.folder / "out"))
    assert said.code == 0, said.err
    lines = (driver.folder / "out" / "predictions.csv").read_text().splitlines()
    assert [line.split()[:3] for line in sorted(lines)][:2] == [
        ["east.csv", "1", "virginica"],
        ["east.csv", "2", "setosa"],
    ]
    assert len(lines) == 8
