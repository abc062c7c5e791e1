"""A sentence encoder of random weights, as sentence-transformers saves it; without that, tests skip."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "red",
    "green",
    "b",
    "##l",
    "##u",
    "x",
    "y",
    "good",
    "film",
    "bad",
]


@cache
def kept_folder() -> TemporaryDirectory:
    return TemporaryDirectory()


@cache
def made_model() -> str:
    """The folder of a model with vectors of 16 numbers."""
    pytest.importorskip("sentence_transformers", reason="needs pip install 'widemax[pretrained]'")
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    place = Path(kept_folder().name)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=12,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(config).save_pretrained(place / "bert")
    (place / "vocab.txt").write_text("\n".join(WORDS))
    BertTokenizerFast(str(place / "vocab.txt"), model_max_length=12).save_pretrained(place / "bert")
    bert = Transformer(str(place / "bert"))
    SentenceTransformer(modules=[bert, Pooling(16)]).save_pretrained(str(place / "model"))
    return str(place / "model")
