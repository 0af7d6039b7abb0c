"""The description of the REST mode (OpenAPI 3.1), and a page that shows it and tries it, with nothing from elsewhere."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from .submitted import DONE, MAX_WAIT, STATES
from .types import BatchRequest, Counts, file_stats

_TEXT: dict[str, Any] = {"type": "string"}
_TEXT_OR_NONE: dict[str, Any] = {"type": ["string", "null"]}
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}

_SECONDS: dict[str, Any] = {"type": "number", "minimum": 0, "maximum": MAX_WAIT}
_BATCH_ID = {"name": "batch_id", "in": "query", "required": True, "schema": {"type": "string", "minLength": 1}}
_TIMEOUT = {"name": "timeout", "in": "query", "schema": _SECONDS, "description": "seconds to wait at most"}
_WAIT = {
    "name": "wait", "in": "query", "schema": {"anyOf": [{"type": "string", "enum": ["true", "false"]}, _SECONDS]},
    "description": "true, or a number of seconds: answer when the batch is done",
}  # fmt: skip
_TARGET = {
    "name": "target_state", "in": "query", "schema": {"type": "string", "enum": list(STATES[:3]), "default": DONE},
}  # fmt: skip


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    """An object that has all of these."""
    return {"type": "object", "required": list(properties), "properties": properties}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _list_of(name: str) -> dict[str, Any]:
    return {"type": "array", "items": _ref(name)}


_SCHEMAS: dict[str, Any] = {
    "Batch": _object(
        {
            "batch_id": _TEXT,
            "status": {"type": "string", "enum": list(STATES)},
            "status_code": {"type": "integer", "enum": [0, 1, 2, 3], "description": "the place of status among these"},
            "submitted": {"type": "number", "description": "seconds since the epoch"},
            "run_summary_path": _TEXT,
            "results_dir": _TEXT,
            "combined_results_file": _TEXT_OR_NONE,
            "file_stats": _ref("FileStats"),
            "fault": {**_TEXT_OR_NONE, "description": "why the batch as a whole could not be done properly"},
        }
    ),
    # Empty until the batch begins.
    "FileStats": {"type": "object", "properties": dict.fromkeys(file_stats(Counts()), _COUNT)},
    "Endpoint": _object(
        {
            "name": _TEXT,
            "url": _TEXT,
            "state": _TEXT,
            **dict.fromkeys(("concurrency", "allowed", "in_flight", "served", "failed"), _COUNT),
        }
    ),
    "Endpoints": {
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {"anyOf": [{"type": "string"}, {"type": "object"}]},
        "description": "as in the endpoint file: a name, and its URL or settings",
    },
    "Readiness": _object({"ready": {"type": "boolean"}, "usable_endpoints": _COUNT}),
    "Health": _object({"status": _TEXT}),
    "Fault": _object({"error": {"type": "string", "description": "what is wrong, for people"}}),
}


def describe(batch_type: type[BatchRequest], *, needs_token: bool) -> dict[str, Any]:
    """The OpenAPI document of a server for ``batch_type``."""
    batch, endpoints = _ref("Batch"), _list_of("Endpoint")
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": f"azbatchwrap batchkit: {batch_type.__name__}", "version": version("azbatchwrap")},
        "servers": [{"url": "/"}],
        "paths": {
            "/submit": {
                "post": _operation("submit", "Submit a batch", batch, body="Submission", codes={"503": "It is ending"})
            },
            "/status": {"get": _operation("status", "State of a batch", batch, [_BATCH_ID, _WAIT])},
            "/watch": {"get": _operation("watch", "Wait for a state", batch, [_BATCH_ID, _TARGET, _TIMEOUT])},
            "/list": {"get": _operation("list_batches", "All batches", _list_of("Batch"))},
            "/delete": {"put": _operation("delete", "End a batch and remove its folder", batch, [_BATCH_ID])},
            "/endpoints": {
                "get": _operation("endpoints", "Endpoints and their health", endpoints),
                "put": _operation("replace_endpoints", "Replace the endpoints", endpoints, body="Endpoints"),
            },
            "/reload": {"post": _operation("reload", "Read the endpoint file again", endpoints)},
            "/ready": {"get": _open(_operation("ready", "Whether an endpoint is usable", _ref("Readiness")))},
            "/health": {"get": _open(_operation("health", "Whether the server is alive", _ref("Health")))},
        },
        "components": {"schemas": {"Submission": dict(batch_type.json_schema), **_SCHEMAS}},
    }
    document["paths"]["/ready"]["get"]["responses"]["503"] = _response("None is usable", _ref("Readiness"))
    if needs_token:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"token": []}]
    return document


def _operation(
    name: str,
    summary: str,
    answer: dict[str, Any],
    parameters: list[dict[str, Any]] | None = None,
    *,
    body: str | None = None,
    codes: dict[str, str] | None = None,
) -> dict[str, Any]:
    operation: dict[str, Any] = {"operationId": name, "summary": summary}
    faults = {"401": "A token is needed, and this is not it", "403": "Asked for under a foreign name", **(codes or {})}
    if parameters:
        operation["parameters"] = parameters
        faults |= {"400": "A parameter is wrong", "404": "There is no such batch"}
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ref(body)}}}
        faults["400"] = "The body is wrong; the answer says where"
    operation["responses"] = {
        "200": _response(summary, answer),
        **{code: _response(text, _ref("Fault")) for code, text in faults.items()},
    }
    return operation


def _response(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _open(operation: dict[str, Any]) -> dict[str, Any]:
    """``operation``, for everybody."""
    del operation["responses"]["401"]
    return {**operation, "security": []}


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>batchkit</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 50rem; padding: 0 1rem; color: #223 }
section { border: 1px solid #ccd; border-radius: 6px; margin: .8rem 0; padding: .6rem 1rem }
h2 { font: 600 1rem ui-monospace, monospace; margin: 0 }
label { display: block; margin: .3rem 0 } input { width: 22rem } textarea { width: 100%; height: 5rem }
pre { background: #f4f5f8; padding: .6rem; overflow: auto; max-height: 20rem }
</style></head><body>
<h1 id="title"></h1><p>Described in <a href="openapi.json">openapi.json</a>.
<label>token <input id="token" type="password" autocomplete="off"></label></p>
<main></main>
<script>
"use strict";
const add = (parent, name, text) => {
  const made = document.createElement(name); if (text) made.textContent = text; parent.append(made); return made;
};
function section(path, method, operation, schemas) {
  const box = add(document.querySelector("main"), "section");
  add(box, "h2", method.toUpperCase() + " " + path); add(box, "p", operation.summary);
  const fields = (operation.parameters || []).map(parameter => {
    const label = add(box, "label", parameter.name + (parameter.required ? " * " : " "));
    const input = add(label, "input"); input.placeholder = parameter.description || ""; return [parameter.name, input];
  });
  const body = operation.requestBody ? add(box, "textarea") : null;
  if (body) {
    const name = operation.requestBody.content["application/json"].schema.$ref.split("/").pop();
    body.placeholder = JSON.stringify(schemas[name]);
  }
  const button = add(box, "button", "Try"), shown = add(box, "pre");
  shown.hidden = true;
  button.onclick = async () => {
    const query = new URLSearchParams(fields.filter(([, input]) => input.value).map(([name, input]) => [name, input.value]));
    const headers = {"Content-Type": "application/json"}, token = document.getElementById("token").value;
    if (token) headers.Authorization = "Bearer " + token;
    shown.hidden = false; shown.textContent = "\\u2026";
    try {
      const answer = await fetch(path.slice(1) + (query.size ? "?" + query : ""),
                                 {method: method.toUpperCase(), headers, body: body ? body.value : undefined});
      shown.textContent = answer.status + "\\n" + JSON.stringify(await answer.json(), null, 2);
    } catch (error) { shown.textContent = String(error); }
  };
}
fetch("openapi.json").then(answer => answer.json()).then(description => {
  document.getElementById("title").textContent = description.info.title;
  for (const [path, methods] of Object.entries(description.paths))
    for (const [method, operation] of Object.entries(methods))
      section(path, method, operation, description.components.schemas);
});
</script></body></html>
"""
