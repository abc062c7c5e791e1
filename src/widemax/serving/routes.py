"""The routes of one run, and those of the Open Inference Protocol over all."""

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from widemax.errors import UnknownNameError, UsageError, did_you_mean
from widemax.recommender import neighbors
from widemax.serving import explanations, feedback, predictions
from widemax.serving.batches import Result
from widemax.serving.bodies import disconnected, read_body, read_object
from widemax.serving.guard import check_may_order
from widemax.serving.inference import EXTENSIONS, HEADER_LENGTH, infer_reply, metadata, read_infer, version_of
from widemax.serving.models import Models, Served, classifier
from widemax.serving.predictions import MAX_K, Question, Ranked
from widemax.serving.replies import Reply
from widemax.serving.systems import Asked, ServedSystem


class PlainRoute(APIRoute):
    """A route whose function takes the request as it is, so that nothing has to be found out about it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The function itself, for addresses without parameters."""
        handler: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint

        async def handle(request: Request) -> Response:
            await check_parameters(request)
            return await handler(request)

        return handle


async def check_parameters(request: Request) -> None:
    """Refuse parameters of an address that its route would not look at.

    Raises:
        UsageError: there is one.
    """
    if not request.scope["query_string"]:
        return
    known = [parameter.alias for parameter in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        if name not in known:
            hint = did_you_mean(name, known) if known else "it takes none. Put options into the body."
            raise UsageError(f"{request.url.path} has no parameter {name!r}; {hint}")


SHORT_BYTES = 1 << 12
"""Of a body that takes no longer to answer than others."""


async def ask(request: Request, served: Served, question: Question) -> list[list[Ranked]]:
    """The answers to a question, computed beside those to others."""
    pace = served.pace if len(await request.body()) <= SHORT_BYTES else None
    answers: list[list[Ranked]] = await request.app.state.batches.answer(
        served.predict, question, size=len(question.rows), gone=disconnected(request), pace=pace
    )
    return answers


async def ask_system(request: Request, served: ServedSystem, asked: Asked) -> list[dict[str, Any]]:
    """The answers of a system, which stops computing them once the client has gone."""
    try:
        answers: list[dict[str, Any]] = await request.app.state.batches.answer(
            served.predict, asked, size=len(asked.rows), gone=disconnected(request)
        )
        return answers
    finally:
        asked.over.set()


async def alone(request: Request, compute: Callable[[], Result]) -> Result:
    """What a function gives, in a thread and in its turn, unless the client goes before."""
    result: Result = await request.app.state.batches.answer(
        lambda _items: [compute()], None, gone=disconnected(request)
    )
    return result


def model_routes(name: str, *, prefix: str) -> APIRouter:
    """The routes of one run."""
    router = APIRouter(prefix=prefix, tags=[name])

    async def predict(request: Request) -> Response:
        """The k most probable labels of each row, or what the system of the run makes of it.

        A set of labels that is larger than k says to abstain.
        """
        request.app.state.batches.check_room()  # before anything is read, so that refusing takes little
        served = request.app.state.models[name]
        if isinstance(served, ServedSystem):
            asked = served.read(await read_object(request))
            return Reply({**served.said, "rows": await ask_system(request, served, asked)})
        question, sets = predictions.read(served.model, await read_object(request)), served.sets
        wanted = question if sets is None else question.listing(sets.k)
        answers = await ask(request, served, wanted)
        rows: list[dict[str, Any]] = [
            {"row": number, "predictions": [line(each) for each in answer[: question.k]]}
            for number, answer in enumerate(answers)
        ]
        if sets is not None:
            for row, size in zip(rows, sets.sizes(answers), strict=True):
                row |= {"set_size": size, "abstain": size > question.k}
        return Reply({**served.said, "rows": rows})

    async def explain(request: Request) -> Response:
        """What moved the answer about a row: words of a text, or columns."""
        served = classifier(request.app.state.models[name])
        asked = explanations.request(served.model, **explanations.BODY.complete(await read_object(request)))
        found = await alone(request, partial(explanations.explain, served.model, asked))
        return Reply({**served.said, **found})

    async def keep(request: Request) -> Response:
        """Keep rows with their right labels, for `widemax train`."""
        served = classifier(request.app.state.models[name])
        lines = feedback.feedback(served, **feedback.BODY.complete(await read_object(request)))
        await run_in_threadpool(request.app.state.feedback.append, name, lines)
        return Reply({"model": name, "kept": len(lines)})

    async def model(request: Request) -> Response:
        """What the model is: its inputs, classes, metrics and the hash of its files."""
        models = request.app.state.models
        return Reply({**models[name].description, "problem": models.problems.get(name)})

    async def labels(
        request: Request,
        query: Annotated[str, Query(max_length=1000)] = "",
        offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Response:
        """The labels that hold a text in any case: those that begin with it first, frequent before rare."""
        search = classifier(request.app.state.models[name]).labels
        return Reply(await alone(request, partial(search.page, query, offset=offset, limit=limit)))

    async def near(request: Request, label: str, k: Annotated[int, Query(ge=1, le=MAX_K)] = 10) -> Response:
        """The classes nearest to one, as `widemax neighbors` gives them."""
        served = classifier(request.app.state.models[name])
        found = await alone(request, partial(neighbors, served.model, label, k=k))
        measure = "cosine" if served.model.head.has_weight_rows else "probability"
        return Reply({"label": label, "neighbors": [{"label": near, measure: x} for near, x in found]})

    async def reload(request: Request) -> Response:
        """Read the run's folder again; where that fails the old model stays."""
        check_may_order(request)
        served = await run_in_threadpool(request.app.state.models.load, name)
        return Reply({**served.description, "problem": None})

    for path, post in (("predict", predict), ("explain", explain), ("feedback", keep), ("reload", reload)):
        router.add_api_route(f"/{path}", post, methods=["POST"], route_class_override=PlainRoute)
    router.add_api_route("/model", model, methods=["GET"])
    router.add_api_route("/labels", labels, methods=["GET"])
    router.add_api_route("/neighbors/{label:path}", near, methods=["GET"])
    return router


def line(ranked: Ranked) -> dict[str, Any]:
    """A label as `widemax predict` writes it."""
    return {"label": ranked.label, "probability": ranked.probability, "logit": ranked.logit}


listing = APIRouter(prefix="/v1", tags=["models"])
"""What is served."""


@listing.get("/models")
async def list_models(request: Request) -> Response:
    """The models by name, the first of them that of ``/v1``, and whether each is ready or what is wrong."""
    models: Models = request.app.state.models
    told = [
        {
            "name": name,
            "state": "ready" if name in models.served else "unavailable",
            "problem": models.problems.get(name),
        }
        for name in models
    ]
    return Reply({"models": told})


inference = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])
"""The Open Inference Protocol."""


def named(request: Request, name: str) -> Served | ServedSystem:
    """The model of a name, in the version of the address where that has one.

    Raises:
        UnknownNameError: there is none.
        CorruptError: it could not be read.
    """
    models: Models = request.app.state.models
    if name not in models.folders:
        hint = did_you_mean(name, list(models)) if models else "this server has none."
        raise UnknownNameError(f"there is no model {name!r}; {hint}")
    served = models[name]
    own = version_of(served)
    if (asked := request.path_params.get("version", own)) != own:
        raise UnknownNameError(f"{name} is served in the version {own!r} alone; got {asked!r}.")
    return served


@inference.get("")
async def server_metadata(request: Request) -> Response:
    """What the server is."""
    return Reply({"name": "widemax", "version": request.app.version, "extensions": EXTENSIONS})


@inference.get("/health/live")
async def live() -> Response:
    """Whether the process answers."""
    return Reply({"live": True})


@inference.get("/health/ready")
async def ready(request: Request) -> Response:
    """Whether requests may be sent: some model answers, and the server is not stopping."""
    state = request.app.state
    is_ready = not state.is_stopping and bool(state.models.served or not state.models)
    return Reply({"ready": is_ready}, 200 if is_ready else 503)


@inference.get("/models/{name}/versions/{version}", include_in_schema=False)
@inference.get("/models/{name}")
async def model_metadata(request: Request, name: str) -> Response:
    """What a model takes and gives, as tensors."""
    return Reply(metadata(classifier(named(request, name))))


@inference.get("/models/{name}/versions/{version}/ready", include_in_schema=False)
@inference.get("/models/{name}/ready")
async def model_ready(request: Request, name: str) -> Response:
    """Whether a model answers."""
    return Reply({"name": named(request, name).name, "ready": True})


@inference.post("/models/{name}/versions/{version}/infer", include_in_schema=False)
@inference.post("/models/{name}/infer")
async def infer(request: Request, name: str) -> Response:
    """The most probable labels of each row, as tensors in JSON or in bytes."""
    served = classifier(named(request, name))
    asked = read_infer(served, await read_body(request), request.headers.get(HEADER_LENGTH))
    body, json_length = infer_reply(asked, served, await ask(request, served, asked.question))
    if json_length is None:
        return Response(body, media_type="application/json")
    return Response(body, media_type="application/octet-stream", headers={HEADER_LENGTH: str(json_length)})
