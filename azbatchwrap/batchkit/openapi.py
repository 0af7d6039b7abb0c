"""The description of the REST mode (OpenAPI 3.1), and a page that shows it and tries it, with nothing from elsewhere."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from .types import BatchRequest

_BATCH_ID = {"name": "batch_id", "in": "query", "required": True, "schema": {"type": "string"}}
_TIMEOUT = {
    "name": "timeout", "in": "query", "schema": {"type": "number"}, "description": "seconds to wait at most",
}  # fmt: skip
_WAIT = {
    "name": "wait", "in": "query", "schema": {"type": "string"},
    "description": "true, or a number of seconds: answer when the batch is done",
}  # fmt: skip
_TARGET = {
    "name": "target_state", "in": "query",
    "schema": {"type": "string", "enum": ["waiting", "running", "done"], "default": "done"},
}  # fmt: skip


def describe(batch_type: type[BatchRequest], *, needs_token: bool) -> dict[str, Any]:
    """The OpenAPI document of a server for ``batch_type``."""
    schema = dict(batch_type.json_schema)
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": f"azbatchwrap batchkit: {batch_type.__name__}", "version": version("azbatchwrap")},
        "paths": {
            "/submit": {"post": _operation("Submit a batch", "A batch, with its id", body=schema)},
            "/status": {"get": _operation("State of a batch", "The batch", [_BATCH_ID, _WAIT])},
            "/watch": {"get": _operation("Wait for a state", "The batch", [_BATCH_ID, _TARGET, _TIMEOUT])},
            "/list": {"get": _operation("All batches", "A list of batches")},
            "/delete": {"put": _operation("End a batch and remove its folder", "The batch as it was", [_BATCH_ID])},
            "/endpoints": {
                "get": _operation("Endpoints and their health", "A list of endpoints"),
                "put": _operation("Replace the endpoints", "A list of endpoints", body={"type": "object"}),
            },
            "/reload": {"post": _operation("Read the endpoint file again", "A list of endpoints")},
            "/ready": {"get": _operation("Whether an endpoint is usable", "It is", codes={"503": "None is"})},
            "/health": {"get": _operation("Whether the server is alive", "It is")},
        },
    }
    if needs_token:
        document["components"] = {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}}
        document["security"] = [{"token": []}]
    return document


def _operation(
    summary: str,
    answer: str,
    parameters: list[dict[str, Any]] | None = None,
    *,
    body: dict[str, Any] | None = None,
    codes: dict[str, str] | None = None,
) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {"200": {"description": answer, "content": {"application/json": {}}}},
    }
    others = dict(codes or {})
    if parameters:
        operation["parameters"] = parameters
        others |= {"400": "A parameter is wrong", "404": "There is no such batch"}
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
        others["400"] = "The body is wrong; the answer says where"
    operation["responses"] |= {code: {"description": text} for code, text in others.items()}
    return operation


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
function section(path, method, operation) {
  const box = add(document.querySelector("main"), "section");
  add(box, "h2", method.toUpperCase() + " " + path); add(box, "p", operation.summary);
  const fields = (operation.parameters || []).map(parameter => {
    const label = add(box, "label", parameter.name + (parameter.required ? " * " : " "));
    const input = add(label, "input"); input.placeholder = parameter.description || ""; return [parameter.name, input];
  });
  const body = operation.requestBody ? add(box, "textarea") : null;
  if (body) body.placeholder = JSON.stringify(operation.requestBody.content["application/json"].schema);
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
    for (const [method, operation] of Object.entries(methods)) section(path, method, operation);
});
</script></body></html>
"""
