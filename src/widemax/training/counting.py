"""What held-out rows choose for a head that counts, after its pass over the rows."""

import numpy as np
import torch

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
    finish = model.head.begin if begins else model.head.finish
    finish(model.encoder.eval()(rows.features), rows.labels, exclude=exclude)


def _some(feed: Feed, num_rows: int) -> EncodedRows:
    """As many rows, evenly spread, as their order may mean something."""
    return feed.take(np.unique(np.linspace(0, len(feed) - 1, num_rows).astype(np.int64)))
