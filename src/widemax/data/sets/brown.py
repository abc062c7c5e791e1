"""The Brown corpus: American English of 1961, of fifteen kinds of prose."""

from pathlib import Path
from zipfile import BadZipFile, ZipFile

from widemax.data.sets import sets
from widemax.data.sets.base import PublicSet, on_github
from widemax.errors import DataError

_TEST, _VALID, _OF = 8, 3, 10
"""Of ten documents in their order, these are held out."""


@sets.register("brown")
class Brown(PublicSet):
    """500 documents of about 2,000 words, a sentence a line, words in small letters between spaces."""

    title = "The Brown corpus"
    licence = "free for non-commercial purposes"
    attribution = (
        "W. N. Francis and H. Kučera: A Standard Corpus of Present-Day Edited American English, Brown "
        "University 1964, revised 1979; as packed by NLTK."
    )
    url = "https://www.nltk.org/nltk_data/"
    files = {"brown.zip": "9b275f9b3b95d7bd66ccfb7cd259f445a13bbe5d1f4107aba09fd3e8364bafa6"}
    downloads = on_github(
        *("nltk/nltk_data", "5db857e6f7df11eabb5e5665836db9ec8df07e28", "packages/corpora/", "brown.zip")
    )
    download_bytes = 3_314_357
    splits = ("train", "valid", "test")
    inputs = ("text",)
    target = "genre"

    def prepare(self, source: Path, into: Path) -> None:
        try:
            with ZipFile(source / "brown.zip") as archive:
                genres = dict(line.split() for line in archive.read("brown/cats.txt").decode().splitlines())
                texts = {name: _untagged(archive.read(f"brown/{name}").decode()) for name in sorted(genres)}
        except (BadZipFile, KeyError) as error:
            raise DataError(f"{source / 'brown.zip'} is not the Brown corpus: {error}.") from None
        held_out = {_VALID: "valid", _TEST: "test"}
        for split in self.splits:
            names = [name for at, name in enumerate(texts) if held_out.get(at % _OF, "train") == split]
            columns = {"text": [texts[n] for n in names], "genre": [genres[n] for n in names]}
            self.write(into, split, columns)


def _untagged(document: str) -> str:
    """Its words in small letters, without their parts of speech."""
    lines = (line.split() for line in document.splitlines())
    return "".join(" ".join(w.rpartition("/")[0].lower() for w in line) + "\n" for line in lines if line)
