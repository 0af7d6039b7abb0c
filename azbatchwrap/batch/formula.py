"""The autoscale formula of a pool: it follows the work, keeps idle nodes for a while, and then empties the pool.

The service evaluates it, so this holds also when no driver is alive. A pool that scales by a formula cannot be resized:
its numbers stand at the top, where they are read and changed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from email.utils import format_datetime, parsedate_to_datetime

#: Part of the samples of the span that must be there before the formula trusts them (Azure's own formulas use it).
TRUSTED_PERCENT = 70
_HEAD = re.compile(
    r'\Awanted = time\("(?P<wanted>[^"]+)"\);\nspan = (?P<span>[\d.e+]+) \* TimeInterval_Second;\n'
    r"least = (?P<least>\d+);\nmost = (?P<most>\d+);\nspot = (?P<spot>\d+);\n"
)
#: Samples may be missing (a new pool, a slow service): then the pool stays as it is. What is taken away of the spot
#: nodes is replaced by dedicated ones: the service has no such fallback of its own.
_RULES = f"""\
known = $PendingTasks.GetSamplePercent(span) >= {TRUSTED_PERCENT};
tasks = known ? max($PendingTasks.GetSample(span)) : 0;
taken = known ? min(spot, $PreemptedNodeCount.GetSample(1)) : 0;
inUse = time() < wanted + span || tasks > 0;
busy = min(most, max(least, max(1, tasks / $TaskSlotsPerNode))) + taken;
$TargetDedicatedNodes = inUse ? busy : (known ? 0 : $CurrentDedicatedNodes);
$TargetLowPriorityNodes = inUse ? spot : (known ? 0 : $CurrentLowPriorityNodes);
$NodeDeallocationOption = taskcompletion;"""


@dataclass(frozen=True, slots=True)
class Scale:
    """From ``least`` to ``most`` dedicated nodes while there is work, and ``spot`` nodes beside them.

    They stay for ``span`` seconds after the last task, and after ``wanted``, when somebody last asked for them.
    """

    least: int
    most: int
    spot: int
    span: float
    wanted: datetime

    def formula(self) -> str:
        """As the service takes it."""
        head = (
            f'wanted = time("{format_datetime(self.wanted.astimezone(timezone.utc), usegmt=True)}");\n'
            f"span = {self.span:g} * TimeInterval_Second;\n"
            f"least = {self.least};\nmost = {self.most};\nspot = {self.spot};\n"
        )
        return head + _RULES

    def resized(self, nodes: int | None, spot_nodes: int | None) -> Scale:
        """With other numbers of nodes (``None`` keeps one), the dedicated ones at most."""
        most = self.most if nodes is None else nodes
        least = most if self.least == self.most else min(self.least, most)
        return replace(self, least=least, most=most, spot=self.spot if spot_nodes is None else spot_nodes)


def read_formula(text: str) -> Scale | None:
    """The numbers of a formula that this module wrote; ``None`` for any other."""
    head = _HEAD.match(text)
    if head is None or text[head.end() :].strip() != _RULES:
        return None
    return Scale(
        int(head["least"]),
        int(head["most"]),
        int(head["spot"]),
        float(head["span"]),
        parsedate_to_datetime(head["wanted"]),
    )
