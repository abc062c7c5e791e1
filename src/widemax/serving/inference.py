"""The Open Inference Protocol, version 2: tensors in, tensors out, as JSON or as bytes.

Source: Open Inference Protocol (KServe), with Triton's extensions ``binary_tensor_data`` and
``classification``.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from widemax.data import Schema
from widemax.errors import DataError, UsageError
from widemax.serving.bodies import parse_json
from widemax.serving.models import Served
from widemax.serving.predictions import MAX_K, MAX_ROWS, Question, Ranked
from widemax.serving.systems import ServedSystem

EXTENSIONS = ["binary_tensor_data", "classification"]
HEADER_LENGTH = "Inference-Header-Content-Length"
NUMPY = {
    **{f"INT{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
    "BOOL": "?",
}
"""The datatypes of numbers, as NumPy calls them; texts are BYTES."""
OUTPUTS = {"label": "BYTES", "class_id": "INT64", "logit": "FP32", "probability": "FP32"}
Count = Annotated[int, Field(ge=1, le=MAX_K)]


class Part(BaseModel):
    """A part of a request; further parameters are left to others, as the protocol says."""

    model_config = ConfigDict(strict=True, frozen=True)


class InputParameters(Part):
    """Of a tensor that is given."""

    binary_data_size: Annotated[int, Field(ge=0)] | None = None


class InputTensor(Part):
    """A tensor that is given: a column of the run, a row an element of its first axis."""

    name: str
    shape: Annotated[list[Annotated[int, Field(ge=0, le=1 << 28)]], Field(min_length=1, max_length=4)]
    datatype: Literal[
        "BYTES", "BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64",
        "FP16", "FP32", "FP64",
    ]  # fmt: skip
    parameters: InputParameters = InputParameters()
    data: list[Any] | None = None


class OutputParameters(Part):
    """Of a tensor that is asked for."""

    binary_data: bool | None = None
    classification: Count | None = None


class OutputTensor(Part):
    """A tensor that is asked for."""

    name: Literal["label", "class_id", "logit", "probability"]
    parameters: OutputParameters = OutputParameters()


class Parameters(Part):
    """Of a request: how many labels a row, and whether all outputs are bytes."""

    k: Count = 5
    binary_data_output: bool = False


class InferRequest(Part):
    """A whole request."""

    id: str | None = None
    parameters: Parameters = Parameters()
    inputs: Annotated[list[InputTensor], Field(min_length=1)]
    outputs: list[OutputTensor] | None = None


@dataclass(frozen=True)
class Infer:
    """A request and what it asks of the model."""

    request: InferRequest
    question: Question


def version_of(served: Served | ServedSystem) -> str:
    """What the protocol calls the version of a model: the first letters of its hash."""
    return served.sha256[:12]


def read_infer(served: Served, body: bytes, header_length: str | None) -> Infer:
    """What a body asks: JSON, and after it the bytes of tensors where a header says how long the JSON is.

    Raises:
        UsageError: it is no such request.
        DataError: a tensor does not hold what its shape and datatype say.
    """
    length = len(body)
    if header_length is not None:
        if not header_length.isdecimal() or not 0 < int(header_length[:20]) <= len(body):
            raise UsageError(f"{HEADER_LENGTH} must be the length of the JSON; got {header_length[:20]!r}.")
        length = int(header_length)
    value = parse_json(body[:length])
    try:
        request = InferRequest.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the body"
        raise UsageError(f"{place}: {first['msg']}.") from None
    columns = {}
    at = length
    for tensor in request.inputs:
        size = tensor.parameters.binary_data_size
        if tensor.name in columns:
            raise UsageError(f"input {tensor.name!r} is given twice.")
        columns[tensor.name] = values_of(tensor, None if size is None else body[at : at + size])
        at += size or 0
    if at != len(body):
        raise UsageError(f"the tensors' binary_data_size add up to {at - length}; {len(body) - length} came.")
    lengths = sorted({len(column) for column in columns.values()})
    if len(lengths) > 1 or not 1 <= lengths[0] <= MAX_ROWS:
        raise UsageError(f"inputs must all hold the same 1 to {MAX_ROWS:,} rows; got {lengths}.")
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    asked = [output.parameters.classification or 0 for output in request.outputs or []]
    return Infer(request, Question(rows, max([request.parameters.k, *asked]), 0.0))


def values_of(tensor: InputTensor, data: bytes | None) -> list[Any]:
    """A value a row: of a tensor of one axis, or [B, 1], single values; otherwise lists.

    Raises:
        DataError: the data are not those of the shape and datatype.
    """
    count = math.prod(tensor.shape)
    what = f"input {tensor.name!r} of shape {tensor.shape}"
    if (data is None) == (tensor.data is None):
        raise UsageError(f"{what} must have either data or binary_data_size.")
    if tensor.datatype == "BYTES":
        flat: list[Any] = _strings(what, data) if data is not None else list(_flattened(tensor.data or []))
        if any(not isinstance(text, str) for text in flat):
            raise DataError(f"{what} must hold strings, as its datatype BYTES says.")
    else:
        kind = np.dtype(NUMPY[tensor.datatype])
        if data is not None:
            if len(data) != count * kind.itemsize:
                raise DataError(f"{what} must be {count * kind.itemsize} bytes; got {len(data)}.")
            flat = np.frombuffer(data, kind).tolist()
        else:
            flat = list(_flattened(tensor.data or []))
            wanted = bool if kind.kind == "b" else int if kind.kind in "iu" else int | float
            if any(not isinstance(x, wanted) or (isinstance(x, bool) and wanted is not bool) for x in flat):
                raise DataError(f"{what} must hold numbers of datatype {tensor.datatype}.")
    if len(flat) != count:
        raise DataError(f"{what} must hold {count} values; got {len(flat)}.")
    if len(tensor.shape) == 1 or tensor.shape[1:] == [1]:
        return flat
    width = math.prod(tensor.shape[1:])
    return (
        [flat[start : start + width] for start in range(0, count, width)] if width else [[]] * tensor.shape[0]
    )


def _flattened(data: Sequence[Any]) -> Any:
    for item in data:
        if isinstance(item, list):
            yield from _flattened(item)
        else:
            yield item


def _strings(what: str, data: bytes) -> list[str]:
    """Texts, each after its length in four bytes."""
    texts = []
    at = 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        if at + 4 > len(data) or end > len(data):
            raise DataError(f"{what} ends in the middle of a text.")
        try:
            texts.append(data[at + 4 : end].decode())
        except UnicodeDecodeError:
            raise DataError(f"{what} holds a text that is not UTF-8.") from None
        at = end
    return texts


def infer_reply(
    infer: Infer, served: Served, answers: Sequence[Sequence[Ranked]]
) -> tuple[bytes, int | None]:
    """The body of the answer, and the length of its JSON where bytes of tensors follow."""
    request = infer.request
    listed = min([request.parameters.k, *map(len, answers)])
    outputs = []
    tail = b""
    for output in request.outputs or [OutputTensor(name=name) for name in OUTPUTS]:  # type: ignore[arg-type]
        classes = output.parameters.classification
        if classes is None:
            columns = [[getattr(r, output.name) for r in row[:listed]] for row in answers]
            datatype, width = OUTPUTS[output.name], listed
        else:
            classes = min([classes, *map(len, answers)])
            columns = [
                [f"{getattr(r, output.name)}:{r.class_id}:{r.label}" for r in row[:classes]]
                for row in answers
            ]
            datatype, width = "BYTES", classes
        if datatype == "BYTES":
            columns = [[str(text) for text in row] for row in columns]
        tensor: dict[str, Any] = {"name": output.name, "shape": [len(answers), width], "datatype": datatype}
        flat = [value for row in columns for value in row]
        as_bytes = output.parameters.binary_data
        if request.parameters.binary_data_output if as_bytes is None else as_bytes:
            data = _packed(flat, datatype)
            tensor["parameters"] = {"binary_data_size": len(data)}
            tail += data
        else:
            tensor["data"] = flat
        outputs.append(tensor)
    answer: dict[str, Any] = {"model_name": served.name, "model_version": version_of(served)}
    if request.id is not None:
        answer["id"] = request.id
    said = {key: served.said[key] for key in ("search", "normalizer", "temperature")}
    head = json.dumps({**answer, "parameters": said, "outputs": outputs}, allow_nan=False).encode()
    return head + tail, len(head) if tail else None


def _packed(values: Sequence[Any], datatype: str) -> bytes:
    if datatype == "BYTES":
        texts = [text.encode() for text in values]
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    return np.array(values, NUMPY[datatype]).tobytes()


def metadata(served: Served) -> dict[str, Any]:
    """What the model takes and gives, as tensors."""
    return {
        "name": served.name,
        "versions": [version_of(served)],
        "platform": "widemax",
        "inputs": _tensors(served.model.schema),
        "outputs": [
            {"name": name, "datatype": datatype, "shape": [-1, -1]} for name, datatype in OUTPUTS.items()
        ],
    }


def _tensors(schema: Schema) -> list[Mapping[str, Any]]:
    tensors: list[Mapping[str, Any]] = []
    for column in schema.inputs:
        if column.kind == "vector":
            datatype, shape = "FP32", [-1, column.width or 0]
        elif column.kind == "image":
            datatype, shape = "UINT8", [-1, *(column.shape or ())]
        else:
            datatype, shape = "FP64" if column.kind == "number" else "BYTES", [-1]
        tensors.append({"name": column.name, "datatype": datatype, "shape": shape})
    return tensors
