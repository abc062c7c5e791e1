"""A trained model's head for other programs: ONNX, a table of class vectors, the Embedding Projector's files.

Shapes: B rows, D hidden, C classes.
"""

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from widemax.artifact import Model
from widemax.errors import UsageError
from widemax.heads import CountingHead, LinearHead
from widemax.storage import replacing_file, saving

Format = Literal["onnx", "embeddings", "tsv"]
OPSET, IR_VERSION = 17, 8
ONNX_BYTES = 2**31 - 2**20
"""A file of ONNX holds less than 2 GiB."""
SLACK = 1e-4
TSV = str.maketrans({"\t": " ", "\n": " ", "\r": " "})


def export(model: Model, folder: Path, *, form: Format, overwrite: bool = False) -> list[Path]:
    """Write a model's head in another form, and give the files.

    ``onnx``: ``head.onnx``, hidden vectors [B, D] and k to logits [B, C] and the k best, and ``labels.txt``,
    a label a line as JSON. How a row becomes a hidden vector is not in it: ``Model.hidden`` makes them.
    ``embeddings``: ``embeddings.parquet`` with the label, the count and the vector of each class.
    ``tsv``: ``vectors.tsv`` and ``metadata.tsv``, as the Embedding Projector of TensorBoard reads them.

    Raises:
        UsageError: the head has no such form, a package is missing, or a file is there already.
        ResourceError: the files cannot be written.
    """
    write: Callable[[Model], dict[str, bytes | pa.Table]] = {
        "onnx": onnx_files,
        "embeddings": embeddings,
        "tsv": projector_files,
    }[form]
    files = write(model)
    for name in files:
        if (folder / name).exists() and not overwrite:
            raise UsageError(f"{folder / name} is there already; give --overwrite, or another folder.")
    with saving(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            with replacing_file(folder / name) as temporary:
                if isinstance(content, bytes):
                    temporary.write_bytes(content)
                else:
                    pq.write_table(content, temporary)
    return [folder / name for name in files]


def class_vectors(model: Model) -> torch.Tensor:
    """[C, D] the weights of each class.

    Raises:
        UsageError: the head has none.
    """
    if not isinstance(model.head, LinearHead):
        raise UsageError(
            f"the head {model.config.head.kind!r} has no vector of each class; train with 'exact' "
            "or 'sampled'."
        )
    return model.head.weight.detach().float()


def embeddings(model: Model) -> dict[str, bytes | pa.Table]:
    """The table of class vectors."""
    weight_CD = class_vectors(model).contiguous()
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(weight_CD.numpy().ravel()), weight_CD.shape[1])
    columns = {"label": model.vocabulary.labels, "count": model.vocabulary.counts, "vector": vectors}
    return {"embeddings.parquet": pa.table(columns)}


def projector_files(model: Model) -> dict[str, bytes | pa.Table]:
    """Vectors and labels as lines; what parts cells or lines in a label becomes a space."""
    weight_CD = class_vectors(model)
    vectors = "".join("\t".join(map(repr, row)) + "\n" for row in weight_CD.tolist())
    labels = model.vocabulary.labels.to_pylist()
    named = zip(labels, model.vocabulary.counts.tolist(), strict=True)
    lines = "".join(f"{str(label).translate(TSV)}\t{count}\n" for label, count in named)
    return {"vectors.tsv": vectors.encode(), "metadata.tsv": f"label\tcount\n{lines}".encode()}


@torch.no_grad()
def onnx_files(model: Model) -> dict[str, bytes | pa.Table]:
    """The head as one product, with its bias and temperature, and the k best of it."""
    try:
        import onnx
        from onnx import helper, numpy_helper
    except ModuleNotFoundError:
        raise UsageError("ONNX needs a package: pip install 'widemax[onnx]'.") from None
    head = model.head
    if model.neighbors is not None:
        raise UsageError("nearest training rows have a part in the answers of this run, which ONNX has not.")
    not_linear = (
        f"the logits of the head {model.config.head.kind!r} are not linear, as ONNX takes it; train with "
        "head.kind exact or sampled."
    )
    if isinstance(head, CountingHead):
        raise UsageError(not_linear)  # before a square of all features is made
    if 4 * head.dim * head.num_classes > ONNX_BYTES:
        raise UsageError("the head is larger than the 2 GiB that a file of ONNX holds.")
    bias_1C = head.logits(torch.zeros(1, head.dim))
    weight_DC = head.logits(torch.eye(head.dim)) - bias_1C
    trial_BD = torch.randn(8, head.dim, generator=torch.Generator().manual_seed(0))
    expected_BC = head.logits(trial_BD)
    wrong = (trial_BD @ weight_DC + bias_1C - expected_BC).abs().max() / expected_BC.abs().max()
    if not wrong < SLACK:
        raise UsageError(not_linear)
    float32, int64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["hidden", "weight", "bias"], ["logits"]),
            helper.make_node("TopK", ["logits", "k"], ["topk_logits", "topk_ids"], axis=1),
        ],
        "head",
        [
            helper.make_tensor_value_info("hidden", float32, ["batch", head.dim]),
            helper.make_tensor_value_info("k", int64, [1]),
        ],
        [
            helper.make_tensor_value_info("logits", float32, ["batch", head.num_classes]),
            helper.make_tensor_value_info("topk_logits", float32, ["batch", "k"]),
            helper.make_tensor_value_info("topk_ids", int64, ["batch", "k"]),
        ],
        [
            numpy_helper.from_array(weight_DC.contiguous().numpy(), "weight"),
            numpy_helper.from_array(bias_1C[0].contiguous().numpy(), "bias"),
        ],
    )
    made: dict[str, Any] = {"producer_name": "widemax", "producer_version": version("widemax")}
    proto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, **made
    )
    facts = {
        "normalizer": head.normalizer,
        "hidden": "what Model.hidden of widemax makes of the columns; it is not in this file",
        "columns": json.dumps({column.name: column.kind for column in model.schema.inputs}),
    }
    helper.set_model_props(proto, facts)
    onnx.checker.check_model(proto)
    labels = model.vocabulary.labels.to_pylist()
    text = "".join(json.dumps(label, ensure_ascii=False, default=str) + "\n" for label in labels)
    return {"head.onnx": proto.SerializeToString(), "labels.txt": text.encode()}
