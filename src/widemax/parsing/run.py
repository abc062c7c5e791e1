"""A parser in its folder: safetensors, a vocabulary and a manifest with hashes; loading runs no code from it.

::

    config.toml  manifest.json  vocabulary.json  metrics.jsonl
    weights/parser.safetensors
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from widemax.artifact import read_tensors, write_tensors
from widemax.config import OutputConfig
from widemax.errors import UsageError
from widemax.parsing.config import ParsingConfig
from widemax.parsing.parser import Parser, Vocabulary
from widemax.signatures import check_signature
from widemax.storage import check_folder, current, read_json, read_manifest, sound
from widemax.task import System

CONFIG, VOCABULARY, WEIGHTS = "config.toml", "vocabulary.json", "weights/parser.safetensors"


def facts(values: Mapping[str, Any], *, complete: bool, steps: int, seconds: float) -> dict[str, Any]:
    """What the manifest of a parser's run says."""
    return {
        "widemax_version": version("widemax"),
        "task": System.PARSING,
        "metrics": dict(values),
        "complete": complete,
        "steps": steps,
        "seconds": seconds,
    }


def write_config(folder: Path, config: ParsingConfig) -> None:
    """Put the config into a run, whose folder is its own."""
    own = config.model_copy(update={"output": OutputConfig(dir=".")})
    (folder / CONFIG).write_text(own.to_toml(), encoding="utf-8")


def write_parser(folder: Path, parser: Parser, config: ParsingConfig) -> None:
    """Put a parser into a folder whose manifest is written afterwards."""
    write_config(folder, config)
    text = json.dumps(asdict(parser.vocabulary), ensure_ascii=False)
    (folder / VOCABULARY).write_text(text, encoding="utf-8")
    (folder / WEIGHTS).parent.mkdir(exist_ok=True)
    write_tensors(folder / WEIGHTS, parser.scorer.state_dict())


def read_vocabulary(path: Path) -> Vocabulary:
    """A saved vocabulary.

    Raises:
        CorruptError: it is none.
    """
    values = read_json(path)
    with sound(path):
        vocabulary = TypeAdapter(Vocabulary).validate_json(json.dumps(values), strict=True)
        relations = len(vocabulary.relations)
        sizes = (len(vocabulary.of_root), len(vocabulary.of_word), len(vocabulary.counts))
        if sizes != (relations, relations, len(vocabulary.forms)) or not relations:
            raise ValueError("its lists are not of one length")
    return vocabulary


def load(run: Path | str, *, trusted_key: Path | None = None) -> Parser:
    """The parser of a run, all its files checked; see :meth:`Parser.load`."""
    folder = current(Path(run).expanduser())
    if read_manifest(folder).get("task") != System.PARSING:
        raise UsageError(f"{run} is not the run of a parser; load it with Model.load.")
    check_folder(folder, [CONFIG, VOCABULARY, WEIGHTS])
    if trusted_key is not None:
        check_signature(folder, trusted_key)
    with sound(folder / CONFIG):
        config = ParsingConfig.load(folder / CONFIG)
    parser = Parser(config.parser, config.data.input, read_vocabulary(folder / VOCABULARY))
    tensors = read_tensors(folder / WEIGHTS)
    with sound(folder / WEIGHTS):
        parser.scorer.load_state_dict(tensors)
    return parser
