"""A signature says that the owner of a key signed exactly this run, or the run is refused."""

import json
import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from widemax import Config, Model, train
from widemax.errors import CorruptError, UsageError
from widemax.signatures import check_signature, sign
from widemax.storage import MANIFEST, SIGNATURE, signed

ROWS = pa.table({"text": ["red", "green", "blue"] * 9, "label": ["r", "g", "b"] * 9})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("signed") / "run"
    train(
        Config(data={"target": "label"}, train={"epochs": 1}, encoder={"dim": 4}, output={"dir": run}),
        data=ROWS,
    )
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def keys(folder: Path, name: str = "key", key: object = None) -> tuple[Path, Path]:
    """A new private key and its public key, in files."""
    private = key or ed25519.Ed25519PrivateKey.generate()
    (folder / f"{name}.pem").write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    (folder / f"{name}.pub").write_bytes(
        private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return folder / f"{name}.pem", folder / f"{name}.pub"


def test_a_signed_run_is_loaded(run: Path, tmp_path: Path) -> None:
    private, public = keys(tmp_path)
    right = Model.load(run).predict([{"text": "red"}])
    sign(run, private)
    assert Model.load(run, trusted_key=public).predict([{"text": "red"}]) == right
    assert Model.load(str(run)).predict([{"text": "red"}]) == right
    key = serialization.load_pem_public_key(public.read_bytes())
    key.verify(bytes.fromhex((run / SIGNATURE).read_text()), (run / MANIFEST).read_bytes())  # as anybody can


def test_an_altered_run_is_refused_though_its_hashes_fit(run: Path, tmp_path: Path) -> None:
    private, public = keys(tmp_path)
    sign(run, private)
    manifest = json.loads((run / MANIFEST).read_bytes())
    (run / MANIFEST).write_text(json.dumps(signed(manifest | {"steps": 7})))
    Model.load(run)
    with pytest.raises(CorruptError, match=r"manifest\.sig is not a signature of manifest\.json by"):
        Model.load(run, trusted_key=public)


def test_the_signature_of_another_is_refused(run: Path, tmp_path: Path) -> None:
    sign(run, keys(tmp_path)[0])
    with pytest.raises(CorruptError, match="or signed by another"):
        Model.load(run, trusted_key=keys(tmp_path, "other")[1])


@pytest.mark.parametrize("content", [None, "", "zz", "00" * 63, "00" * 64])
def test_no_signature_is_refused(run: Path, tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (run / SIGNATURE).write_text(content)
    with pytest.raises(CorruptError, match=r"manifest\.sig"):
        check_signature(run, keys(tmp_path)[1])


def test_a_run_saved_anew_is_not_signed(run: Path, tmp_path: Path) -> None:
    sign(run, keys(tmp_path)[0])
    Model.load(run).save(run, overwrite=True)
    assert not (run / SIGNATURE).exists()


@pytest.mark.parametrize("kind", ["missing", "text", "public", "curve"])
def test_a_key_that_is_none_is_one_sentence(run: Path, tmp_path: Path, kind: str) -> None:
    private, public = keys(tmp_path)
    curve, _ = keys(tmp_path, "curve", ec.generate_private_key(ec.SECP256R1()))
    (tmp_path / "text").write_text("a key")
    path = {"missing": tmp_path / "none", "text": tmp_path / "text", "public": public, "curve": curve}[kind]
    with pytest.raises(UsageError, match="must hold an Ed25519 private key in PEM"):
        sign(run, path)
    with pytest.raises(UsageError, match="must hold an Ed25519 public key in PEM"):
        check_signature(run, private if kind == "public" else path)


def test_without_cryptography_a_sentence_says_so(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    with pytest.raises(UsageError, match=r"pip install 'widemax\[sign\]'"):
        sign(run, tmp_path / "key.pem")
