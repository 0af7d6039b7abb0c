"""Step 1: price one option of a table with a binomial tree.

A task file is a Python file with a function do_action(engine, ...). The words of TASK_INPUT arrive as its arguments,
as text: "contracts.csv C1" -> table="contracts.csv", contract_id="C1". The file itself was uploaded as an input and
lies in the current folder. What do_action returns goes to 2_task.py, because the names start with numbers.
"""

import csv
import math
from pathlib import Path

#: More steps come closer to the true price; the time grows with their square (2,000 take about half a second).
STEPS = 1000


def do_action(engine, table, contract_id):
    contract = find_contract(table, contract_id)
    engine.log.info("pricing a %s with strike %s", contract["kind"], contract["strike"])
    return {"contract": contract, "tree_price": tree_price(contract, STEPS)}


def find_contract(table, contract_id):
    """The row of the table with this id, its numbers as numbers."""
    with Path(table).open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["id"] == contract_id:
                numbers = ("spot", "strike", "rate", "volatility", "years")
                return {"id": row["id"], "kind": row["kind"], **{name: float(row[name]) for name in numbers}}
    raise LookupError(f"there is no contract {contract_id!r} in {table}")


def tree_price(contract, steps):
    """The value of a European option in the tree of Cox, Ross and Rubinstein (1979)."""
    sign = {"call": 1, "put": -1}[contract["kind"]]
    spot, strike = contract["spot"], contract["strike"]
    step = contract["years"] / steps
    up = math.exp(contract["volatility"] * math.sqrt(step))
    growth = math.exp(contract["rate"] * step)
    chance = (growth - 1 / up) / (up - 1 / up)
    # What the option pays at the end of every path, then step by step back to today.
    values = [max(0.0, sign * (spot * up ** (2 * ups - steps) - strike)) for ups in range(steps + 1)]
    for width in range(steps, 0, -1):
        values = [((1 - chance) * values[n] + chance * values[n + 1]) / growth for n in range(width)]
    return values[0]
