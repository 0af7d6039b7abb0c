"""Step 2: compare the tree's price with the formula of Black and Scholes, and hand in a file with the comparison.

do_action has one parameter after engine, so it gets what 1_task.py returned as it is. The file goes to the storage
container and from there to the result folder; what do_action returns becomes the task's value in the results.
"""

import json
from math import erf, exp, log, sqrt
from pathlib import Path


def do_action(engine, priced):
    contract, tree = priced["contract"], priced["tree_price"]
    formula = black_scholes(contract)
    summary = {
        "contract": contract["id"],
        "kind": contract["kind"],
        "tree": round(tree, 4),
        "formula": round(formula, 4),
        "difference": round(tree - formula, 4),
    }
    file = Path(f"price_{contract['id']}.json")
    file.write_text(json.dumps({**contract, **summary}, indent=2), encoding="utf-8")
    engine.add_file_to_upload(file)
    return summary


def black_scholes(contract):
    """The closed formula for a European option on a share that pays no dividend (Black and Scholes, 1973)."""
    sign = {"call": 1, "put": -1}[contract["kind"]]
    spot, strike, rate = contract["spot"], contract["strike"], contract["rate"]
    spread = contract["volatility"] * sqrt(contract["years"])
    d1 = (log(spot / strike) + rate * contract["years"]) / spread + spread / 2
    d2 = d1 - spread
    discounted = strike * exp(-rate * contract["years"])
    return sign * (spot * normal(sign * d1) - discounted * normal(sign * d2))


def normal(x):
    """The chance that a standard normal variable is below x."""
    return (1 + erf(x / sqrt(2))) / 2
