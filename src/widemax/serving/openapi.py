"""The OpenAPI document: what each run takes, by its columns, and that every refusal is one sentence."""

import re
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from widemax.artifact import Model
from widemax.data import Column
from widemax.serving.inference import InferRequest
from widemax.serving.models import Models
from widemax.serving.predictions import MAX_K, MAX_ROWS
from widemax.serving.systems import ServedSystem

NUMBER = "[+-]?[0-9]{1,15}([.][0-9]{0,15})?(e[+-]?[0-9]{1,2})?"
"""Texts of numbers, which are taken for them as in a file."""
SCALAR: dict[str, Any] = {"type": ["string", "number", "boolean", "null"]}
EXAMPLES = {
    "text": "some text",
    "category": "some value",
    "number": 1.5,
    "date": "2024-02-29",
    "ids": ["a", "b"],
    "sparse": [{"index": 0, "value": 1.0}],
}
REFUSAL = {
    "description": "One sentence that says what is wrong and what to do.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["error"],
                "properties": {"error": {"type": "string"}},
                "additionalProperties": False,
            }
        }
    },
}
REFUSALS = 400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 429, 499, 503
LABEL = {"type": ["string", "number", "boolean", "null"], "description": "As it was given in training."}

SAID = {
    "model": {"type": "string"},
    "sha256": {"type": "string", "description": "Of the manifest, which holds the hashes of all files."},
    "search": {"enum": ["exact"]},
    "normalizer": {"enum": ["exact"]},
    "temperature": {"type": "number", "description": "What logits were divided by; they are given divided."},
}
PREDICTION = {
    "type": "object",
    "required": ["label", "probability", "logit"],
    "properties": {"label": LABEL, "probability": {"type": "number"}, "logit": {"type": "number"}},
}
ROW = {
    "type": "object",
    "required": ["row", "predictions"],
    "properties": {
        "row": {"type": "integer"},
        "predictions": {"type": "array", "items": PREDICTION},
        "set_size": {
            "type": "integer",
            "description": "Labels in a set that holds the right one as often as asked.",
        },
        "abstain": {"type": "boolean", "description": "Whether this set is larger than k."},
    },
}
ANSWERS: dict[str, Any] = {
    "predict": {
        "type": "object",
        "required": [*SAID, "rows"],
        "properties": {**SAID, "rows": {"type": "array", "items": ROW}},
    },
    "explain": {
        "type": "object",
        "required": [*SAID, "label", "method", "logit", "parts"],
        "properties": {**SAID, "parts": {"type": "array", "items": {"type": "object"}}},
    },
    "feedback": {"type": "object", "properties": {"model": {"type": "string"}, "kept": {"type": "integer"}}},
}
"""What is answered to rows."""
OF_CLASSES = "/explain", "/feedback", "/labels", "/neighbors/{label}"
"""What only classifiers answer."""


def document(app: FastAPI) -> dict[str, Any]:
    """The whole document, as the runs are now."""
    found = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    models: Models = app.state.models
    for prefix, name in models.prefixes.items():
        if (served := models.served.get(name)) is None:
            continue
        answers = ANSWERS
        if isinstance(served, ServedSystem):
            taken, answers = {"predict": served.body}, {"predict": system_answer(served)}
            for path in OF_CLASSES:
                del found["paths"][prefix + path]
        else:
            taken = bodies(served.model)
        for verb, body in taken.items():
            operation = found["paths"][f"{prefix}/{verb}"]["post"]
            operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
            operation["responses"]["200"]["content"]["application/json"]["schema"] = answers[verb]
    classifiers = [name for name in models if not isinstance(models.served.get(name), ServedSystem)]
    schemas = found.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    tensors = InferRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= tensors.pop("$defs")
    infer = found["paths"]["/v2/models/{name}/infer"]["post"]
    infer["requestBody"] = {"required": True, "content": {"application/json": {"schema": tensors}}}
    if models and not classifiers:
        for address in [path for path in found["paths"] if path.startswith("/v2/models/")]:
            del found["paths"][address]
    for address, path in found["paths"].items():
        for operation in path.values():
            for parameter in operation.get("parameters", ()):
                if address.startswith("/v2/models/{name}") and classifiers:
                    parameter["schema"] = {"type": "string", "enum": classifiers}
            kept = {code: reply for code, reply in operation["responses"].items() if code < "400"}
            for reply in kept.values():
                for form in reply.get("content", {}).values():
                    if form.get("schema") == {"type": "string"}:  # said of every Response
                        form["schema"] = {}
            operation["responses"] = {**kept, **{str(code): REFUSAL for code in REFUSALS}}
    return found


def system_answer(served: ServedSystem) -> dict[str, Any]:
    """What a run of a system answers to rows."""
    said = {key: SAID[key] for key in ("model", "sha256")}
    row = {"row": {"type": "integer"}, **served.reply}
    rows = {"type": "array", "items": {"type": "object", "required": list(row), "properties": row}}
    return {"type": "object", "required": [*said, "rows"], "properties": {**said, "rows": rows}}


def bodies(model: Model) -> dict[str, dict[str, Any]]:
    """What each route that takes rows takes, by the columns of a model."""
    row = row_schema(model)
    rows = {"anyOf": [{"type": "array", "items": row, "minItems": 1, "maxItems": MAX_ROWS}, row["anyOf"][0]]}
    one = {"anyOf": [{"type": "array", "items": row, "minItems": 1, "maxItems": 1}, row["anyOf"][0]]}
    k = {"type": ["integer", "null"], "minimum": 1, "maximum": MAX_K}
    example = [example_row(model)]
    label: dict[str, Any] = {}
    if "string" in model.schema.target_type:
        label = {"type": ["string", "number", "boolean"], "minLength": 1}
    if model.schema.several:
        label = {"type": "array", "items": label}
    number = {"type": "number", "minimum": 0, "maximum": 1}
    fitted = ["auto"] if model.threshold is not None else []
    predict = {"inputs": rows, "k": k, "threshold": {"anyOf": [number, {"enum": [*fitted, None]}]}}
    explain = {"inputs": one, "label": {"type": ["string", "integer", "null"]}}
    feedback = {"inputs": rows, "labels": {"type": "array", "items": label, "minItems": 1}}
    known = model.vocabulary.labels[:1].to_pylist()
    right = [known] if model.schema.several else known
    return {
        "predict": _object(predict, ["inputs"], {"inputs": example, "k": 3}),
        "explain": _object(explain, ["inputs"], {"inputs": example}),
        "feedback": _object(feedback, ["inputs", "labels"], {"inputs": example, "labels": right}),
    }


def _object(properties: dict[str, Any], required: list[str], example: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": False,
        "example": example,
    }


def row_schema(model: Model) -> dict[str, Any]:
    """A row of the model's columns, each with its kind; or a text, where the one column is text."""
    inputs = model.schema.inputs
    row = {
        "type": "object",
        "required": [column.name for column in inputs],
        "properties": {column.name: column_schema(column) for column in inputs},
    }
    takes_text = [column.kind for column in inputs] == ["text"]
    return {"anyOf": [row, *[{"type": ["string", "null"]}] * takes_text]}


def column_schema(column: Column) -> dict[str, Any]:
    """The values of a column.

    Example:
        >>> column_schema(Column("size", "vector", width=2))["maxItems"]
        2
    """
    number = {"type": "number", "minimum": -3e38, "maximum": 3e38}
    if column.kind == "vector":
        form: dict[str, Any] = {
            "type": "array",
            "items": number,
            "minItems": column.width,
            "maxItems": column.width,
        }
    elif column.kind == "image":
        form = {"type": "array", "description": f"Pixels, {column.shape}, nested or in a row."}
    elif column.kind in ("ids", "sparse"):
        form = {"type": "array"}
    elif column.kind == "number":
        marks = "|".join(map(re.escape, column.missing))
        form = {"type": ["number", "boolean", "null", "string"], "pattern": rf"^({NUMBER}|{marks})$"}
    elif column.kind == "date":
        form = {"type": ["string", "null"], "format": "date"}
    else:
        form = dict(SCALAR)
    return {**form, "title": column.name, "x-kind": column.kind}


def example_row(model: Model) -> dict[str, Any]:
    """A row that can be sent as it stands.

    Example:
        >>> from types import SimpleNamespace
        >>> schema = SimpleNamespace(inputs=[Column("color", "category")])
        >>> example_row(SimpleNamespace(schema=schema))
        {'color': 'some value'}
    """

    def example(column: Column) -> Any:
        if column.kind == "vector":
            return [0.0] * (column.width or 0)
        if column.kind == "image":
            height, width, channels = column.shape or (0, 0, 0)
            return [0] * (height * width * channels)
        return EXAMPLES[column.kind]

    return {column.name: example(column) for column in model.schema.inputs}
