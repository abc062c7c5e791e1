"""The classes of a run: a map of their vectors, search, and the nearest of each.

Shapes: C classes, N shown, D hidden.
"""

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query
from starlette.responses import Response

from widemax.data import Dataset, Reading, resolve
from widemax.errors import UsageError, WidemaxError
from widemax.heads import LinearHead
from widemax.serving.models import Served
from widemax.serving.once import once
from widemax.serving.replies import Reply
from widemax.serving.studio.library import Library

classes = APIRouter(tags=["studio"])
MOST_SHOWN = 200_000
"""Points that a browser pans and zooms at ease; of more classes a random part is shown."""
SAMPLED_ROWS = 4096
"""Training rows by which class vectors are weighed."""
SEED = 0


@once
def vectors(served: Served) -> tuple[np.ndarray, int]:
    """[C, D] class vectors whose products are the covariances of the classes' logits, and over how many rows.

    With hidden vectors of covariance Σ over training rows, logits W h have covariance W Σ Wᵀ, so these are
    the rows of W Σ^½: a weight in a direction where rows do not differ counts nothing. Without the training
    rows these are the class weights, and the number is 0.

    Raises:
        UsageError: the head has no vector for each class.
    """
    head = served.model.head
    if not isinstance(head, LinearHead):
        raise UsageError(
            f"{served.name} has the head {served.model.config.head.kind!r}, which has no vector for each "
            "class, so there is no map. Train one with head.kind exact or sampled."
        )
    weight_CD = head.weight.detach().float().numpy()
    if min(weight_CD.shape) < 2:
        raise UsageError(f"{served.name} has class vectors of shape {weight_CD.shape}: too few for a map.")
    hidden_BD = _hidden(served)
    if hidden_BD is None:
        return weight_CD, 0
    values_D, axes_DD = np.linalg.eigh(np.cov(hidden_BD, rowvar=False))
    return weight_CD @ (axes_DD * np.sqrt(values_D.clip(min=0))).astype(np.float32), len(hidden_BD)


@once
def places(served: Served) -> tuple[np.ndarray, list[float]]:
    """[C, 2] the class vectors along their two directions of most variance, and those shares of it; exact."""
    from sklearn.decomposition import PCA

    vectors_CD, _ = vectors(served)
    pca = PCA(n_components=2, svd_solver="covariance_eigh").fit(vectors_CD)
    return pca.transform(vectors_CD).astype(np.float32), pca.explained_variance_ratio_.tolist()


@once
def _units(served: Served) -> np.ndarray:
    vectors_CD, _ = vectors(served)
    units_CD: np.ndarray = vectors_CD / np.linalg.norm(vectors_CD, axis=1, keepdims=True).clip(min=1e-12)
    return units_CD


def _hidden(served: Served) -> np.ndarray | None:
    """[B, D] hidden vectors of random training rows, if these are still where they were."""
    model = served.model
    try:
        sources = resolve(model.config.data.train)
        dataset = Dataset(sources, model.schema, format=Reading.of(model.config.data), drop_bad=True)
        batch = dataset.sample(SAMPLED_ROWS, seed=SEED)
        return model.hidden(batch.columns).double().numpy() if len(batch) > 1 else None
    except WidemaxError:
        return None


@classes.get("/runs/{name}/classes")
def describe(name: str, library: Library) -> Any:
    """How many classes there are and how many the map shows, and the share of variance of its two axes."""
    served = library.served(name)
    places_C2, shares = places(served)
    shown = _shown(len(places_C2))
    return Reply(
        {
            "num_classes": len(places_C2),
            "shown": len(shown),
            "shares": shares,
            "sampled_rows": vectors(served)[1],
            "most_rows": int(served.model.vocabulary.counts.max()),
            "sha256": served.sha256,
        }
    )


@classes.get(
    "/runs/{name}/classes/map",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}}},
)
def draw(name: str, library: Library) -> Response:
    """The map in little-endian bytes: N float32 x, N float32 y, N uint32 class ids, N uint32 training rows.

    Frequent classes come first. Of more than 200,000 classes a random part is sent, drawn evenly with seed 0.
    """
    served = library.served(name)
    places_C2, _ = places(served)
    shown = _shown(len(places_C2))
    counts_N = np.minimum(served.model.vocabulary.counts[shown], 2**32 - 1)
    parts = (
        places_C2[shown, 0].astype("<f4"),
        places_C2[shown, 1].astype("<f4"),
        shown.astype("<u4"),
        counts_N.astype("<u4"),
    )
    return Response(b"".join(part.tobytes() for part in parts), media_type="application/octet-stream")


@classes.get("/runs/{name}/labels")
def labels(
    name: str,
    library: Library,
    query: Annotated[str, Query(max_length=1000)] = "",
    offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 20,
) -> Any:
    """The labels that hold a text, as ``/v1/labels`` finds them."""
    return Reply(library.served(name).labels.page(query, offset=offset, limit=limit))


@classes.get("/runs/{name}/classes/{class_id}")
def one(name: str, class_id: int, library: Library, k: Annotated[int, Query(ge=1, le=100)] = 12) -> Any:
    """One class: its label, training rows, place on the map and the classes with the nearest vectors."""
    served = library.served(name)
    known = served.model.vocabulary
    if not 0 <= class_id < len(known):
        raise UsageError(f"class ids are 0 to {len(known) - 1}; got {class_id}.")
    places_C2, _ = places(served)
    units_CD = _units(served)
    cosines_C = units_CD @ units_CD[class_id]
    cosines_C[class_id] = -np.inf
    near = np.argsort(-cosines_C, kind="stable")[: min(k, len(known) - 1)].tolist()
    ids = [class_id, *near]
    told = [
        {
            "class_id": int(each),
            "label": str(known.decode(np.array([each]))[0]),
            "count": int(known.counts[each]),
            "x": float(places_C2[each, 0]),
            "y": float(places_C2[each, 1]),
        }
        for each in ids
    ]
    cosines = cosines_C[near].tolist()
    return Reply(
        {
            **told[0],
            "neighbors": [{**each, "cosine": cosine} for each, cosine in zip(told[1:], cosines, strict=True)],
        }
    )


def _shown(num_classes: int) -> np.ndarray:
    if num_classes <= MOST_SHOWN:
        return np.arange(num_classes)
    return np.sort(np.random.default_rng(SEED).choice(num_classes, MOST_SHOWN, replace=False))
