"""Letter Recognition: 16 measurements of a printed letter."""

from pathlib import Path

import pyarrow.csv as pa_csv

from widemax.data.sets import sets
from widemax.data.sets.base import PublicSet, on_github

_TRAIN_ROWS = 16_000


@sets.register("letter_recognition")
class LetterRecognition(PublicSet):
    """20,000 capital letters in 16 whole numbers each; the last 4,000 are the test, as in the paper."""

    title = "Letter Recognition"
    licence = "CC BY 4.0, https://creativecommons.org/licenses/by/4.0/"
    attribution = (
        "David J. Slate: Letter Recognition, UCI Machine Learning Repository, 1991, doi 10.24432/C5ZP40."
    )
    url = "https://archive.ics.uci.edu/dataset/59/letter+recognition"
    files = {"letter-recognition.data.gz": "9b63b12c9425f919cf32a4de0ffbbef25960ddeced6a0c15fc8cf2dbb530b403"}
    downloads = on_github(
        "davidgasquez/letter-recognition",
        "fe3c4830d0003e53340bbf40a57c3573e021df64",
        "",
        "letter-recognition.data",
    )
    download_bytes = 712_610
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
