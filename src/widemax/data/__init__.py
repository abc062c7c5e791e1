"""Files and frames in, batches out: formats, kinds of columns, label vocabularies, checks, data sets."""

from widemax.data.catalog import Data, at_hand, get, resolve
from widemax.data.checks import check
from widemax.data.class_table import ClassTable, infer_class_schema
from widemax.data.convert import array_of, convert, lists, plain, ragged
from widemax.data.dataset import Batch, Dataset
from widemax.data.event_columns import EventColumns
from widemax.data.events import (
    GIVEN,
    HISTORY,
    NEXT,
    USER,
    Events,
    HistoryRows,
    held_out_rows,
    history_rows,
    read_events,
)
from widemax.data.formats import ArrowStream, Frame, Reading, Source, format_of, formats
from widemax.data.labels import LabelCounter, LabelVocabulary
from widemax.data.originals import download
from widemax.data.records import columns_of, good_rows, records_of
from widemax.data.report import DataReport
from widemax.data.row_keys import STORED_BYTES, count_known, row_keys
from widemax.data.schema import KINDS, USUAL_TARGETS, Column, Schema, infer_schema
from widemax.data.sets import sets
from widemax.data.target import convert_labels

__all__ = [
    "GIVEN",
    "HISTORY",
    "KINDS",
    "NEXT",
    "STORED_BYTES",
    "USER",
    "USUAL_TARGETS",
    "ArrowStream",
    "Batch",
    "ClassTable",
    "Column",
    "Data",
    "DataReport",
    "Dataset",
    "EventColumns",
    "Events",
    "Frame",
    "HistoryRows",
    "LabelCounter",
    "LabelVocabulary",
    "Reading",
    "Schema",
    "Source",
    "array_of",
    "at_hand",
    "check",
    "columns_of",
    "convert",
    "convert_labels",
    "count_known",
    "download",
    "format_of",
    "formats",
    "get",
    "good_rows",
    "held_out_rows",
    "history_rows",
    "infer_class_schema",
    "infer_schema",
    "lists",
    "plain",
    "ragged",
    "read_events",
    "records_of",
    "resolve",
    "row_keys",
    "sets",
]
