"""What held-out rows choose for a head that counts, after its pass over the rows."""

import numpy as np
import torch
from torch import Tensor

from widemax.artifact import Model
from widemax.data import HISTORY
from widemax.data.convert import lists
from widemax.encoders import HistoryEncoder, to_tensors
from widemax.heads import CountingHead
from widemax.heads.blend import CHOICE_ROWS
from widemax.training.feed import EncodedRows, Feed
from widemax.training.prepare import Session


@torch.no_grad()
def finish_counts(session: Session, valid: Feed | None, *, begins: bool) -> None:
    """Make the weights of what was counted; held-out rows, if there are any, choose the powers.

    Args:
        begins: whether gradients go on to train the head.
    """
    model = session.model
    if not isinstance(model.head, CountingHead):
        return
    if valid is None:
        model.head.finish()
        return
    rows = _some(valid, CHOICE_ROWS)
    exclude = rows.seen if model.excludes_seen else None
    held_out = model.encoder.eval()(rows.features)
    if begins:
        model.head.begin(held_out, rows.labels, exclude=exclude, classes=_classes(model))
    else:
        model.head.finish(held_out, rows.labels, exclude=exclude)


def _classes(model: Model) -> Tensor | None:
    """[C, F] what each item is in a history that fades; where none does, rows count alike either way."""
    encoder, size = model.encoder, len(model.vocabulary)
    if model.histories is None or not isinstance(encoder, HistoryEncoder) or not encoder.fades:
        return None
    alone = lists(np.ones(size, np.int64), model.vocabulary.labels)
    nothing = lists(np.zeros(size, np.int64), model.vocabulary.labels[:0])
    columns = {name: alone if name == HISTORY else nothing for name, _ in encoder.columns}
    hidden: Tensor = encoder(to_tensors(encoder.encode(columns)))
    return hidden


def _some(feed: Feed, num_rows: int) -> EncodedRows:
    """As many rows, evenly spread, as their order may mean something."""
    return feed.take(np.unique(np.linspace(0, len(feed) - 1, num_rows).astype(np.int64)))
