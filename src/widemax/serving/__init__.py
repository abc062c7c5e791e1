"""Trained runs behind HTTP: one process, one port, requests answered in batches."""

from widemax.serving.app import create_app
from widemax.serving.models import Models, Served
from widemax.serving.settings import Settings

__all__ = ["Models", "Served", "Settings", "create_app"]
