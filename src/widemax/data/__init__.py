"""Files and frames in, batches out: formats, kinds of columns, label vocabularies, checks, data sets."""

from widemax.data.catalog import Data, at_hand, get, resolve
from widemax.data.checks import check
from widemax.data.convert import lists, plain, ragged
from widemax.data.dataset import Batch, Dataset
from widemax.data.events import (
    HISTORY,
    NEXT,
    USER,
    EventColumns,
    HistoryRows,
    held_out_rows,
    history_rows,
)
from widemax.data.formats import ArrowStream, Frame, Reading, Source, formats
from widemax.data.labels import LabelCounter, LabelVocabulary
from widemax.data.originals import download
from widemax.data.records import columns_of, good_rows, records_of
from widemax.data.report import DataReport
from widemax.data.row_keys import STORED_BYTES, count_known, row_keys
from widemax.data.schema import KINDS, Column, Schema, infer_schema
from widemax.data.sets import sets

__all__ = [
    "HISTORY",
    "KINDS",
    "NEXT",
    "STORED_BYTES",
    "USER",
    "ArrowStream",
    "Batch",
    "Column",
    "Data",
    "DataReport",
    "Dataset",
    "EventColumns",
    "Frame",
    "HistoryRows",
    "LabelCounter",
    "LabelVocabulary",
    "Reading",
    "Schema",
    "Source",
    "at_hand",
    "check",
    "columns_of",
    "count_known",
    "download",
    "formats",
    "get",
    "good_rows",
    "held_out_rows",
    "history_rows",
    "infer_schema",
    "lists",
    "plain",
    "ragged",
    "records_of",
    "resolve",
    "row_keys",
    "sets",
]
