"""Trained runs behind HTTP: one process, one port, requests answered in batches."""

from widemax.serving.abstention import Coverage, Sets
from widemax.serving.app import create_app
from widemax.serving.models import Models, Served
from widemax.serving.settings import Settings

__all__ = ["Coverage", "Models", "Served", "Sets", "Settings", "create_app"]
