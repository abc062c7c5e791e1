"""Names, paths and globs to files; original files to prepared ones, checked and at once."""

import errno
import gzip
import os
import re
import shutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from widemax.data import Dataset, LabelVocabulary, get, infer_schema, resolve, sets
from widemax.errors import DataError, ResourceError, UnknownNameError


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WIDEMAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_paths_globs_and_names(tmp_path):
    for name in ("b.csv", "a.csv", "c.txt"):
        (tmp_path / name).write_text("x\n", encoding="utf-8")
    a, b = tmp_path / "a.csv", tmp_path / "b.csv"
    assert resolve([str(b), str(a)]) == [b, a]
    assert resolve([str(tmp_path / "*.csv")]) == [a, b]
    odd = tmp_path / "[1].csv"
    odd.write_text("x\n", encoding="utf-8")
    assert resolve([str(odd)]) == [odd]
    assert resolve(["clinc150"]) == resolve(["clinc150:train"]) == resolve("clinc150")


@pytest.mark.parametrize(
    ("item", "error", "message"),
    [
        ("{}/x*.csv", DataError, "no file matches"),
        ("{}/train.cvs", DataError, "did you mean {}/train.csv?"),
        ("{}/nowhere/train.csv", DataError, "check the path"),
        ("{}", DataError, "is a folder, but must be a file"),
        ("clinc", UnknownNameError, "is neither a file nor a data set; did you mean 'clinc150'?"),
        ("clinc150:tset", DataError, "has no split 'tset'; did you mean 'test'?"),
    ],
)
def test_what_cannot_be_resolved(tmp_path, item, error, message):
    (tmp_path / "train.csv").write_text("x\n", encoding="utf-8")
    with pytest.raises(error, match=re.escape(message.format(tmp_path))):
        resolve([item.format(tmp_path)])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_before_it_is_waited_for(tmp_path):
    os.mkfifo(tmp_path / "rows.csv")
    with pytest.raises(DataError, match=r"rows\.csv is a pipe or a device, .*save them in a file"):
        resolve([str(tmp_path / "rows.csv")])


def test_the_bundled_set(monkeypatch):
    monkeypatch.delenv("WIDEMAX_DATA", raising=False)
    rows = {split: pq.read_table(resolve([f"clinc150:{split}"])[0]) for split in sets["clinc150"].splits}
    assert {split: len(table) for split, table in rows.items()} == {
        "train": 18_000,
        "test": 4_500,
        "oos_test": 1_000,
    }
    train, test = (set(rows[split]["intent"].to_pylist()) for split in ("train", "test"))
    assert train == test
    assert len(train) == 150
    assert set(rows["oos_test"]["intent"].to_pylist()) == {"oos"}
    notice = (get("clinc150") / "clinc150-LICENCE.txt").read_text(encoding="utf-8")
    assert "CC BY 3.0" in notice
    assert "Larson" in notice
    assert sum(file.stat().st_size for file in get("clinc150").iterdir()) < 300_000


def test_the_bundled_files_are_what_prepare_makes(widemax_data, tmp_path):
    made = get("clinc150", tmp_path / "clinc150")
    for split in sets["clinc150"].splits:
        name = f"clinc150-{split}.parquet"
        assert pq.read_table(made / name).equals(pq.read_table(get("clinc150") / name))


def test_absent_originals_say_what_to_put_where(tmp_path, cache, monkeypatch):
    monkeypatch.delenv("WIDEMAX_DATA", raising=False)
    with pytest.raises(DataError, match="`widemax data get gowalla --download` fetches them") as failure:
        get("gowalla")
    assert failure.value.exit_code == 3
    for part in (
        f"They belong into {cache / 'originals' / 'gowalla'}",
        "train.txt.gz (sha256 0f086326",
        "test.txt.gz (sha256 099a2a73",
    ):
        assert part in str(failure.value)
    with pytest.raises(DataError, match="No address offers this subset"):
        get("cifar10")
    monkeypatch.setenv("WIDEMAX_DATA", str(tmp_path))
    with pytest.raises(DataError, match=re.escape(f"They belong into {tmp_path / 'gowalla'}:")):
        get("gowalla")
    (tmp_path / "gowalla").mkdir()
    (tmp_path / "gowalla" / "test.txt.gz").touch()
    for content, found in ((b"other", "a damaged file"), (gzip.compress(b"other"), "sha256 d9298a10")):
        (tmp_path / "gowalla" / "train.txt.gz").write_bytes(content)
        with pytest.raises(DataError, match=f"must have sha256 0f086326\\w+ once unpacked, got {found}"):
            get("gowalla")
    assert not cache.exists()


def test_preparing_is_atomic_and_done_once(widemax_data, cache, monkeypatch):
    name = "reverse_dictionary_eval"
    prepare = sets[name].prepare

    def fail_at_the_end(self, source, into):
        prepare(self, source, into)
        raise DataError("cut short")

    monkeypatch.setattr(sets[name], "prepare", fail_at_the_end)
    with pytest.raises(DataError, match="cut short"):
        get(name)
    assert list(cache.iterdir()) == []
    monkeypatch.setattr(sets[name], "prepare", prepare)
    folder = get(name)
    assert folder == cache / name
    monkeypatch.delenv("WIDEMAX_DATA")
    assert get(name) == folder  # without the originals
    assert resolve([f"{name}:unseen"]) == [folder / f"{name}-unseen.parquet"]
    with pytest.raises(DataError, match="has no split 'train'"):
        resolve([name])


def test_a_disk_that_is_full_at_the_last_moment(widemax_data, cache, monkeypatch):
    def refuse(path, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        with pytest.raises(ResourceError, match="No space left"):
            get("reverse_dictionary_eval")
    assert list(cache.iterdir()) == []
    assert get("reverse_dictionary_eval").is_dir()


def test_what_another_version_prepared_is_prepared_again(widemax_data, cache, monkeypatch):
    name = "reverse_dictionary_eval"
    folder = get(name)
    split = folder / f"{name}-seen.parquet"
    whole = pq.read_table(split)
    for change in ("other", None):
        pq.write_table(whole[:3], split)
        (folder / "mine.txt").write_text("precious", encoding="utf-8")
        if change:
            (folder / f"{name}-version.txt").write_text(change, encoding="utf-8")
        else:
            (folder / f"{name}-version.txt").unlink()
        assert get(name) == folder
        assert pq.read_table(split).equals(whole)
        assert (folder / "mine.txt").read_text(encoding="utf-8") == "precious"
    pq.write_table(whole[:3], split)
    assert len(pq.read_table(get(name) / split.name)) == 3  # of this version: not looked into
    monkeypatch.setattr(sets[name], "version", "newer")
    monkeypatch.delenv("WIDEMAX_DATA")
    with pytest.raises(DataError, match="the original files of 'reverse_dictionary_eval' are not here"):
        get(name)


def test_a_folder_in_use_is_left_alone(widemax_data, tmp_path):
    (tmp_path / "mine.txt").write_text("precious", encoding="utf-8")
    with pytest.raises(DataError, match="exists and does not hold all of 'letter_recognition'"):
        get("letter_recognition", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


ROWS = {
    "brown": {"train": 400, "valid": 50, "test": 50},
    "tinyshakespeare": {"train": 7_222},
    "letter_recognition": {"train": 16_000, "test": 4_000},
    "reverse_dictionary_eval": {"seen": 500, "unseen": 500},
    "amazon_beauty": {"train": 353_962 - 3 * 40_226, "valid": 40_226, "test": 40_226},
    "finna_en": {"train": 570_330, "test": 64_355},
    "gowalla": {"train": 149_290, "test": 29_858},
    "newsgroups20": {"train": 11_314, "test": 7_532},
    "open_english_wordnet": {"train": 180_152, "test": 5_000},
    "mnist": {"train": 60_000, "test": 10_000},
    "fashion_mnist": {"train": 60_000, "test": 10_000},
    "cifar10": {"train": 10_000, "test": 2_000},
    "omniglot_background": {"train": 14_460, "test": 4_820},
    "wn18rr": {"train": 86_835, "valid": 3_034, "test": 3_134},
    "ud_english_ewt": {"train": 12_544, "valid": 2_001, "test": 2_077},
}
CLASSES = {
    "brown": 15,
    "tinyshakespeare": 309,
    "letter_recognition": 26,
    "amazon_beauty": 46_300,
    "finna_en": 24_931,
    "gowalla": 40_981,
    "newsgroups20": 20,
    "open_english_wordnet": 128_044,
    "mnist": 10,
    "fashion_mnist": 10,
    "cifar10": 10,
    "omniglot_background": 964,
    "wn18rr": 31_881,
    "ud_english_ewt": 5,
}


@pytest.fixture(scope="module")
def prepared(widemax_data, tmp_path_factory):
    """Prepares each set once for the module."""
    folder = tmp_path_factory.mktemp("prepared")
    yield lambda name: get(name, folder / name)
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_prepared_sets_have_the_counts_of_the_manifest(prepared, name):
    data_set = sets[name]()
    folder = prepared(name)
    for split, rows in ROWS[name].items():
        assert pq.read_metadata(data_set.path(folder, split)).num_rows == rows
    if name in CLASSES:
        path = data_set.path(folder, "train")
        schema = infer_schema([path], inputs=data_set.inputs, target=data_set.target)
        assert len(LabelVocabulary.build(Dataset([path], schema).batches())) == CLASSES[name]


@pytest.mark.slow
def test_wordnet_holds_out_definitions_whose_words_can_be_learned(prepared):
    folder = prepared("open_english_wordnet")
    train, test = (
        pq.read_table(folder / f"open_english_wordnet-{split}.parquet") for split in ("train", "test")
    )
    assert not set(train["definition"].to_pylist()) & set(test["definition"].to_pylist())
    assert set(test["word"].to_pylist()) <= set(train["word"].to_pylist())


@pytest.mark.slow
def test_texts_have_the_tokens_of_the_manifest(prepared):
    folder = prepared("brown")
    texts = [pq.read_table(folder / f"brown-{split}.parquet")["text"].to_pylist() for split in ROWS["brown"]]
    words = [word for part in texts for text in part for word in text.split()]
    assert (len(words), len(set(words))) == (1_161_192, 49_815)
    speeches = pq.read_table(prepared("tinyshakespeare") / "tinyshakespeare-train.parquet")["speech"]
    text = "\n\n".join(speeches.to_pylist())
    assert (len(text), len(set(text)), len(text.split())) == (1_115_394, 65, 202_651)


@pytest.mark.slow
def test_gowalla_and_beauty_hide_what_is_to_be_found(prepared):
    folder = prepared("gowalla")
    test = pq.read_table(folder / "gowalla-test.parquet").to_pylist()
    assert sum(len(row["items"]) for row in test) == 217_242
    assert sum(len(row["history"]) for row in test) == 810_128
    train = pq.read_table(folder / "gowalla-train.parquet").to_pylist()
    assert sum(len(row["items"]) for row in train) == 810_128
    assert not any(set(row["items"]) & set(row["history"]) for row in [*train, *test])
    folder = prepared("amazon_beauty")
    valid, test = (pq.read_table(folder / f"amazon_beauty-{split}.parquet") for split in ("valid", "test"))
    for before, after in zip(valid.to_pylist()[:1000], test.to_pylist()[:1000], strict=True):
        assert after["history"] == [*before["history"], before["item"]]


def unlike_neighbors(pixels_BHWC):
    """How much a pixel differs from the one to its left and the one above."""
    return np.mean([np.abs(np.diff(pixels_BHWC.astype(np.int16), axis=axis)).mean() for axis in (1, 2)])


@pytest.mark.slow
def test_images_are_what_the_originals_hold(widemax_data, prepared):
    split = prepared("omniglot_background") / "omniglot_background-{}.parquet"
    train, test = (pq.read_table(str(split).format(name)) for name in ("train", "test"))
    for table, drawings in ((train, 15), (test, 5)):
        counts = set(table["label"].value_counts().field("counts").to_pylist())
        assert counts == {drawings}
    pixels = train["image"].combine_chunks().to_numpy_ndarray()
    assert set(np.unique(pixels)) == {0, 255}
    assert np.mean(pixels == 0) == pytest.approx(0.0779, abs=2e-3)  # ink
    cifar = pq.read_table(prepared("cifar10") / "cifar10-train.parquet")
    pixels = cifar["image"].combine_chunks().to_numpy_ndarray()
    assert pixels.shape == (10_000, 32, 32, 3)
    assert pixels.mean() == pytest.approx(120.58, abs=0.01)
    assert unlike_neighbors(pixels) < 20
    assert unlike_neighbors(pixels.transpose(0, 3, 1, 2).reshape(pixels.shape)) > 25  # channels out of place
    mnist = pq.read_table(prepared("mnist") / "mnist-test.parquet")
    raw = gzip.decompress((widemax_data / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())
    assert mnist["image"].combine_chunks().to_numpy_ndarray().tobytes() == raw[16:]
    assert mnist["label"].to_pylist()[:10] == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


def test_every_set_says_where_it_comes_from_and_under_which_licence():
    for name in sets:
        data_set = sets[name]()
        assert data_set.name == name
        assert data_set.title
        assert data_set.licence
        assert data_set.attribution
        assert data_set.url.startswith("http")
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in data_set.files.values())
        assert sum([data_set.bundled, bool(data_set.downloads), bool(data_set.by_hand)]) == 1
        assert bool(data_set.downloads) == (data_set.download_bytes > 0)
        for address in data_set.downloads.values():
            assert re.match(
                r"https://(raw\.githubusercontent\.com/[^/]+/[^/]+/[0-9a-f]{40}|(?!raw)[^/]+)/", address
            )


def test_the_old_name_says_the_new_one():
    with pytest.raises(AttributeError, match="'DataSet'; it is PublicSet now"):
        import_module("widemax.data.sets").DataSet  # noqa: B018
