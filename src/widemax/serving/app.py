"""The application: every route, before them the guard, and behind them the batches."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import fastapi_offline
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, Response
from starlette.routing import Match, Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from widemax.errors import WidemaxError
from widemax.serving.batches import Batches
from widemax.serving.feedback import FeedbackFiles
from widemax.serving.guard import Guard
from widemax.serving.metrics import Meter, Metrics
from widemax.serving.models import Models
from widemax.serving.openapi import document
from widemax.serving.replies import Reply, refuse
from widemax.serving.routes import check_parameters, inference, listing, model_routes
from widemax.serving.session import session
from widemax.serving.settings import Settings
from widemax.serving.studio import Runs, studio

STATIC = Path(__file__).with_name("static")
SWAGGER = Path(fastapi_offline.__file__).with_name("static")
DOCS = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>widemax API</title>
<link rel="stylesheet" href="/docs/files/swagger-ui.css"></head><body><div id="swagger-ui"></div>
<script src="/docs/files/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script></body></html>"""
START = 'SwaggerUIBundle({url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true})'


class Pages(Mount):
    """The files of a folder by their names, which leaves every other address to the routes.

    Args:
        folder: of the files; ``index.html`` is at ``/``.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__("/", StaticFiles(directory=folder, html=True))
        files = (path for path in folder.rglob("*") if path.is_file())
        self.addresses = {"/", *(f"/{path.relative_to(folder).as_posix()}" for path in files)}

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether a request is for one of the files."""
        return super().matches(scope) if scope["path"] in self.addresses else (Match.NONE, {})


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
    settings, models = settings or Settings(), models or Models()
    batches = Batches(settings)
    metrics = Metrics(batches, models)

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
    app.openapi = lambda: document(app)  # type: ignore[method-assign]
    app.state.models, app.state.settings, app.state.batches = models, settings, batches
    app.state.feedback = FeedbackFiles(settings.feedback)
    app.state.is_stopping = False
    for error in (WidemaxError, HTTPException, RequestValidationError, ClientDisconnect, MemoryError):
        app.add_exception_handler(error, refuse)
    app.state.runs = runs or Runs(fixed=models)
    of_models = [model_routes(name, prefix=prefix) for prefix, name in models.prefixes.items()]
    for router in (*of_models, listing, inference, session, studio):
        app.include_router(router, dependencies=[Depends(check_parameters)])
    add_pages(app, metrics)
    if STATIC.is_dir():
        app.routes.append(Pages(STATIC))
    app.add_middleware(Meter, metrics=metrics)
    app.add_middleware(Guard, settings=settings)
    return app


def add_pages(app: FastAPI, metrics: Metrics) -> None:
    """The numbers for Prometheus, and the page about all routes, which needs no other host."""

    async def numbers(_request: Request) -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def docs(_request: Request) -> Response:
        return HTMLResponse(DOCS)

    async def start(_request: Request) -> Response:
        return Response(START, media_type="text/javascript")

    pages: dict[str, Any] = {"/metrics": numbers, "/docs": docs, "/docs/start.js": start}
    for path, page in pages.items():
        app.add_api_route(path, page, methods=["GET"], include_in_schema=False)
    app.mount("/docs/files", StaticFiles(directory=SWAGGER))
