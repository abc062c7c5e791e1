"""Speeches of Shakespeare's plays, of which small language models learn letters."""

import gzip
from pathlib import Path

from widemax.data.sets import sets
from widemax.data.sets.base import PublicSet, on_github


@sets.register("tinyshakespeare")
class TinyShakespeare(PublicSet):
    """7,222 speeches in their order; joined by an empty line they are the text of 1,115,394 characters."""

    title = "Tiny Shakespeare"
    licence = "the text is in the public domain"
    attribution = "William Shakespeare; as put together by Andrej Karpathy for char-rnn, 2015."
    url = "https://github.com/karpathy/char-rnn"
    files = {"input.txt.gz": "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"}
    downloads = on_github(
        *("karpathy/char-rnn", "6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e", "data/tinyshakespeare/"),
        "input.txt",
    )
    download_bytes = 1_115_394
    splits = ("train",)
    inputs = ("speech",)
    target = "speaker"

    def prepare(self, source: Path, into: Path) -> None:
        with gzip.open(source / "input.txt.gz", "rt", encoding="utf-8") as file:
            speeches = file.read().split("\n\n")
        speakers = [speech.lstrip("\n").partition(":")[0] for speech in speeches]
        self.write(into, "train", {"speech": speeches, "speaker": speakers})
