"""Operations on a pool's autoscale formula."""

from __future__ import annotations

from typing import Any

import orjson

from azbatchwrap.local.batch import wire
from azbatchwrap.local.batch.allocation import begin_resize
from azbatchwrap.local.batch.autoscale import AutoscaleError, check
from azbatchwrap.local.batch.autoscaler import described
from azbatchwrap.local.batch.errors import BatchError
from azbatchwrap.local.batch.exchange import Request, Response, done
from azbatchwrap.local.batch.model import Pool
from azbatchwrap.local.batch.service import Service
from azbatchwrap.local.batch.shapes import pools as shapes

#: A pool's formula may be set again only after so long.
PAUSE = 30 * wire.TICKS_PER_SECOND


def check_formula(formula: str) -> None:
    """Raises BatchError for a formula that may not be set."""
    try:
        check(formula)
    except AutoscaleError as error:
        raise BatchError(error.code, error.values) from None


def _pool(service: Service, request: Request) -> Pool:
    pool = service.pool(request.path[0])
    if pool.life.state == "deleting":
        raise BatchError("PoolBeingDeleted")
    request.check_conditions(pool.life.modified)
    return pool


def enable(service: Service, request: Request) -> Response:
    """Switch on, or change formula or interval; evaluated at once."""
    pool = _pool(service, request)
    body = request.read(shapes.AUTOSCALE_ENABLE)
    was_on = pool.spec["enableAutoScale"]
    if pool.allocation != "steady":
        raise BatchError("PoolBeingResized")
    if not body or (not was_on and "autoScaleFormula" not in body):
        raise BatchError("InvalidAutoScalingSettings", [("Reason", "A formula is needed to enable autoscaling.")])
    if "autoScaleFormula" in body:
        check_formula(body["autoScaleFormula"])
    if was_on and wire.now() - pool.autoscale_enabled_at < PAUSE:
        raise BatchError("TooManyEnableAutoScaleRequests")
    kept = {"autoScaleEvaluationInterval": pool.spec.get("autoScaleEvaluationInterval", "PT15M")}
    pool.spec = {**pool.spec, **kept, **body, "enableAutoScale": True}
    pool.autoscale_enabled_at = modified = pool.life.touch()
    service.save_pool(pool)
    service.autoscaler.watch(pool)
    return done(request, 200, modified)


async def disable(service: Service, request: Request) -> Response:
    """The targets stay where the last run put them."""
    pool = _pool(service, request)
    if not pool.spec["enableAutoScale"]:
        raise BatchError("OperationNotValidOnPool", [("Reason", "Autoscaling is not enabled on the pool.")])
    service.autoscaler.forget(pool)
    dropped = ("autoScaleFormula", "autoScaleEvaluationInterval")
    pool.spec = {name: value for name, value in pool.spec.items() if name not in dropped}
    pool.spec["enableAutoScale"] = False
    pool.autoscale_run = None
    modified = pool.life.touch()
    await service.settle(begin_resize(service, pool))
    return done(request, 200, modified)


def evaluate(service: Service, request: Request) -> Response:
    """Try a formula out; nothing changes."""
    pool = _pool(service, request)
    formula = request.read(shapes.AUTOSCALE_EVALUATE)["autoScaleFormula"]
    if not pool.spec["enableAutoScale"]:
        raise BatchError("OperationNotValidOnPool", [("Reason", "Autoscaling is not enabled on the pool.")])
    check_formula(formula)
    run: dict[str, Any] = {
        "odata.metadata": f"{request.base}/$metadata#Microsoft.Azure.Batch.Protocol.Entities.AutoScaleRun",
        "timestamp": wire.format_ticks(wire.now()),
    }
    try:
        run["results"] = service.autoscaler.try_out(pool, formula).results
    except AutoscaleError as error:
        run |= {"results": error.results, "error": described(error)}
    return Response(200, orjson.dumps(run), ((b"dataserviceid", request.url.encode()),))
