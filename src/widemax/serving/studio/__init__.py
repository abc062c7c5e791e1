"""What the page Studio asks beside predictions: runs as they train, mistakes, classes, audits, playground."""

from fastapi import APIRouter

from widemax.serving.studio.classes import classes
from widemax.serving.studio.jobs import jobs
from widemax.serving.studio.library import Runs
from widemax.serving.studio.mistakes import mistakes
from widemax.serving.studio.playground import playground
from widemax.serving.studio.reference import reference
from widemax.serving.studio.runs import runs

__all__ = ["Runs", "studio"]

studio = APIRouter(prefix="/v1/studio")
"""All routes of the page; ``app.state.runs`` must hold the :class:`Runs` they speak of."""
for _routes in (runs, jobs, mistakes, classes, playground, reference):
    studio.include_router(_routes)
