"""The application: every route, before them the guard, and behind them the batches."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from widemax.errors import WidemaxError
from widemax.serving import predictions
from widemax.serving.batches import Batches
from widemax.serving.bodies import disconnected, read_object
from widemax.serving.guard import Guard, check_may_order
from widemax.serving.models import Models
from widemax.serving.replies import Reply, refuse
from widemax.serving.settings import Settings
from widemax.serving.studio import Runs, studio

STATIC = Path(__file__).with_name("static")
Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]


def create_app(
    models: Models | None, settings: Settings | None = None, *, runs: Runs | None = None
) -> FastAPI:
    """The ASGI application that answers for some runs.

    ``app.state`` has the ``models``, the ``settings`` and the ``batches``, for the routes of others, and says
    ``is_stopping`` once the server stops.

    Args:
        models: the runs that answer at ``/v1``; none do when None.
        settings: how requests are answered; the defaults when None.
        runs: what the page at ``/`` speaks of; the models when None.

    Example:
        >>> app = create_app(Models(["run"]))  # doctest: +SKIP
    """
    settings = settings or Settings()
    batches = Batches(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        batches.close()

    app = FastAPI(
        title="widemax",
        version=version("widemax"),
        description="Predictions of trained runs.",
        lifespan=lifespan,
        default_response_class=Reply,
        docs_url=None,
        redoc_url=None,
    )
    app.state.models, app.state.settings, app.state.batches = models, settings, batches
    app.state.is_stopping = False
    for error in (WidemaxError, HTTPException, RequestValidationError, ClientDisconnect, MemoryError):
        app.add_exception_handler(error, refuse)
    app.state.runs = runs or Runs(fixed=models.folders if models else {})
    if models is not None:
        app.include_router(model_routes(models.default, prefix="/v1"))
        for name in models:
            app.include_router(model_routes(name, prefix=f"/v1/models/{name}"))
    app.include_router(studio)
    if STATIC.is_dir():
        app.mount("/", StaticFiles(directory=STATIC, html=True))
    app.add_middleware(Guard, settings=settings)
    return app


def model_routes(name: str, *, prefix: str) -> APIRouter:
    """The routes of one run."""
    router = APIRouter(prefix=prefix)

    async def predict(request: Request) -> Response:
        """The k most probable labels of each row."""
        served = request.app.state.models[name]
        given = predictions.BODY.complete(await read_object(request))
        asked = predictions.question(served.model, **given)
        answers = await request.app.state.batches.answer(
            served.predict, asked, size=len(asked.rows), gone=disconnected(request)
        )
        return Reply(
            {
                **served.said,
                "rows": [
                    {"row": row, "predictions": list(map(vars, answer))} for row, answer in enumerate(answers)
                ],
            }
        )

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
        served = request.app.state.models[name]
        page = partial(served.labels.page, offset=offset, limit=limit)
        return Reply(await asyncio.to_thread(page, query))

    async def reload(request: Request) -> Response:
        """Read the run's folder again; where that fails the old model stays."""
        check_may_order(request, request.app.state.settings)
        served = await asyncio.to_thread(request.app.state.models.load, name)
        return Reply({**served.description, "problem": None})

    router.add_api_route("/predict", predict, methods=["POST"])
    router.add_api_route("/model", model, methods=["GET"])
    router.add_api_route("/labels", labels, methods=["GET"])
    router.add_api_route("/reload", reload, methods=["POST"])
    return router
