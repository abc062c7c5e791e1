"""20 Newsgroups by date: Usenet posts and the group they were sent to."""

import gzip
import json
import tarfile
from pathlib import Path, PurePosixPath

from widemax.data.sets import sets
from widemax.data.sets.base import PublicSet
from widemax.errors import DataError
from widemax.storage import sha256

_ARCHIVE = "20news-bydate.tar.gz"


@sets.register("newsgroups20")
class Newsgroups20(PublicSet):
    """11,314 training and 7,532 later test posts; headers, signatures and quotations are kept."""

    title = "20 Newsgroups, split by date"
    licence = "none stated (public Usenet posts)"
    attribution = (
        "Ken Lang: NewsWeeder: Learning to filter netnews, ICML 1995; by-date split by Jason Rennie."
    )
    url = "http://qwone.com/~jason/20Newsgroups/"
    files = {
        "20news-bydate-train.jsonl.gz": "a96263f7ae518bbed503c90d267c2193cac8353af7d264b105d8beeecb869816",
        "20news-bydate-test.jsonl.gz": "de5c1e310ecbc516357cd1db039a21ffd591257e8c4011db3c56015bbc8cf74e",
    }
    downloads = {_ARCHIVE: "https://ndownloader.figshare.com/files/5975967"}
    download_bytes = 20_000_000
    archive_sha256 = "8f1b2514ca22a5ade8fbb9cfa5727df95fa587f4c87b786e15c759fa66d95610"
    inputs = ("text",)
    target = "group"

    def assemble(self, fetched: Path, into: Path) -> None:
        """Writes the posts of the archive as lines of JSON, in the order of their groups and names."""
        found = sha256(fetched / _ARCHIVE)
        if found != self.archive_sha256:
            raise DataError(f"{_ARCHIVE} must have sha256 {self.archive_sha256}, got {found}.")
        posts = {}
        with tarfile.open(fetched / _ARCHIVE) as archive:
            for member in archive:
                if file := archive.extractfile(member):  # a folder has none
                    posts[PurePosixPath(member.name).parts[-3:]] = file.read().decode("latin-1")
        for split in self.splits:
            with gzip.open(into / f"20news-bydate-{split}.jsonl.gz", "wt", encoding="utf-8") as lines:
                for (folder, group, name), text in sorted(posts.items()):
                    if folder == f"20news-bydate-{split}":
                        row = {"group": group, "file": name, "text": text}
                        lines.write(json.dumps(row, ensure_ascii=False) + "\n")

    def prepare(self, source: Path, into: Path) -> None:
        for split in self.splits:
            with gzip.open(source / f"20news-bydate-{split}.jsonl.gz", "rt", encoding="utf-8") as file:
                rows = [json.loads(line) for line in file]
            self.write(into, split, {name: [row[name] for row in rows] for name in ("text", "group")})
