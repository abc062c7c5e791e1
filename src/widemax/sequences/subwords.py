"""Texts as pieces of words, of a vocabulary that was learned from texts."""

from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field

from widemax.errors import CorruptError, DataError, UsageError
from widemax.options import checked

UNKNOWN, START, END, PADDING = range(4)
"""The ids of what is no piece; the pieces follow."""
SUBWORDS = "subwords.model"
"""Their file in a run."""
MOST_BYTES = 2**26
"""A model is smaller; a vocabulary of a million pieces has 20 MB."""


def _sentencepiece() -> Any:
    try:
        import sentencepiece
    except ImportError:
        raise UsageError(
            "subwords need the package sentencepiece; install it with: pip install 'widemax[translation]'"
        ) from None
    sentencepiece.SetMinLogLevel(2)
    return sentencepiece


class Subwords:
    """Byte-pair encoding by SentencePiece: frequent pieces of words, and bytes where no piece fits.

    Nothing is normalized, so texts with single spaces come back as they were.

    Args:
        model: the ``model`` of another one.

    Attributes:
        model: the vocabulary and its merges as bytes, which a run keeps.

    Raises:
        CorruptError: bytes that are no such model.

    Example:
        >>> subwords = Subwords.learn(["a cat sat", "a hat sat"] * 9, size=300)
        >>> subwords.decode(subwords.encode(["a cat"]))
        ['a cat']

    Source: Sennrich, Haddow and Birch, Neural machine translation of rare words with subword units, ACL 2016;
    Kudo and Richardson, SentencePiece, EMNLP 2018.
    """

    @checked
    def __init__(self, model: bytes) -> None:
        self.model = model
        try:
            if len(model) > MOST_BYTES:
                raise RuntimeError
            self._pieces = _sentencepiece().SentencePieceProcessor(model_proto=model)
            pieces = self._pieces
            ids = pieces.unk_id(), pieces.bos_id(), pieces.eos_id(), pieces.pad_id()
            if ids != (UNKNOWN, START, END, PADDING):
                raise RuntimeError
        except RuntimeError:
            raise CorruptError("the subwords of the run are damaged. Restore the file from a copy.") from None

    @classmethod
    @checked
    def learn(cls, texts: Iterable[str], *, size: Annotated[int, Field(ge=300)] = 8000) -> "Subwords":
        """Learns a vocabulary of so many pieces at most, the 256 bytes and all characters among them.

        Raises:
            DataError: no text.
        """
        made = BytesIO()
        try:
            _sentencepiece().SentencePieceTrainer.train(
                sentence_iterator=iter(texts),
                model_writer=made,
                vocab_size=size,
                hard_vocab_limit=False,
                model_type="bpe",
                byte_fallback=True,
                character_coverage=0.9999,
                normalization_rule_name="identity",
                remove_extra_whitespaces=False,
                num_threads=1,
                unk_id=UNKNOWN,
                bos_id=START,
                eos_id=END,
                pad_id=PADDING,
            )
        except RuntimeError as error:
            raise DataError(
                f"no subwords can be learned from these texts: {error}. Give more text."
            ) from None
        return cls(made.getvalue())

    @classmethod
    def read(cls, path: Path, pieces: Sequence[str]) -> Self:
        """Those of a file.

        Raises:
            CorruptError: they are damaged, or have other pieces.
        """
        made = cls(path.read_bytes())
        if made.pieces != pieces:
            raise CorruptError(f"{path} must hold the pieces of the labels. Restore both from a copy.")
        return made

    def write(self, path: Path) -> None:
        """Write them into a file."""
        path.write_bytes(self.model)

    def __len__(self) -> int:
        return int(self._pieces.vocab_size())

    @property
    def pieces(self) -> list[str]:
        """The piece of each id."""
        return [self._pieces.id_to_piece(id_) for id_ in range(len(self))]

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of the pieces of each text, without start and end."""
        return self._pieces.encode(list(texts), num_threads=1)  # type: ignore[no-any-return]

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """The texts of pieces."""
        return self._pieces.decode([list(row) for row in ids], num_threads=1) if ids else []
