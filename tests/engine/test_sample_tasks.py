"""The repository's own tasks, run by the engine as a user would run them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from .conftest import Node

ROOT = Path(__file__).parent.parent.parent
TABLE = ROOT / "examples" / "pricing" / "contracts.csv"
#: The formula's price of the first call, from the textbook: spot 100, strike 100, 3 %, 20 %, one year.
PRICE_OF_C1 = 9.4134


@pytest.fixture
def pricing(node: Node) -> Node:
    tasks = {f"tasks/{path.name}": path.read_bytes() for path in (ROOT / "tasks").glob("*.py")}
    node.lay_out({"inputs/contracts.csv": TABLE.read_bytes(), **tasks})
    return node


def test_the_pricing_chain_agrees_with_the_formula_for_every_contract(pricing: Node) -> None:
    with TABLE.open(newline="") as file:
        contracts = [row["id"] for row in csv.DictReader(file)]
    assert len(contracts) == 8
    prices = {}
    for contract in contracts:
        run = pricing.run("1_task.py", "contracts.csv", contract)
        assert run.code == 0, run.stderr
        assert run.result["value"]["contract"] == contract
        assert abs(run.result["value"]["difference"]) < 0.001 * run.result["value"]["formula"]
        assert json.loads(run.output(f"price_{contract}.json"))["tree"] == run.result["value"]["tree"]
        prices[contract] = run.result["value"]["formula"]
    assert prices["C1"] == pytest.approx(PRICE_OF_C1, abs=0.0001)


def test_an_unknown_contract_is_said(pricing: Node) -> None:
    run = pricing.run("1_task.py", "contracts.csv", "C99")
    assert run.error == {**run.error, "type": "LookupError", "message": "there is no contract 'C99' in contracts.csv"}
