"""Letter Recognition: 16 measurements of a printed letter."""

from pathlib import Path

import pyarrow.csv as pa_csv

from widemax.data.sets import sets
from widemax.data.sets.base import PublicSet

_TRAIN_ROWS = 16_000


@sets.register("letter_recognition")
class LetterRecognition(PublicSet):
    """20,000 capital letters in 16 whole numbers each; the last 4,000 are the test, as in the paper."""

    name = "letter_recognition"
    title = "Letter Recognition"
    licence = "CC BY 4.0, https://creativecommons.org/licenses/by/4.0/"
    attribution = (
        "David J. Slate: Letter Recognition, UCI Machine Learning Repository, 1991, doi 10.24432/C5ZP40."
    )
    url = "https://archive.ics.uci.edu/dataset/59/letter+recognition"
    files = {"letter-recognition.data.gz": "63ca53ee88f46ce4fb2f96a46fac51190a58a355557eaec6e32b83ad841a77f6"}
    inputs = (
        *("x_box", "y_box", "width", "height", "on_pixels", "x_bar", "y_bar", "x2_bar", "y2_bar", "xy_bar"),
        *("x2y_bar", "xy2_bar", "x_edge", "x_edge_y", "y_edge", "y_edge_x"),
    )
    target = "letter"

    def prepare(self, source: Path, into: Path) -> None:
        table = pa_csv.read_csv(source / "letter-recognition.data.gz")
        table = table.rename_columns([self.target, *self.inputs])
        for split, rows in (("train", table[:_TRAIN_ROWS]), ("test", table[_TRAIN_ROWS:])):
            self.write(into, split, {name: rows[name] for name in (*self.inputs, self.target)})
