"""The next token by chance. Shapes: B rows, C classes, K classes that are kept."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from widemax.options import AtLeast1, checked

Temperature = Annotated[float, Field(ge=0)]
TopP = Annotated[float, Field(gt=0, le=1)]


@checked
def sample(
    logits: Tensor,
    *,
    temperature: Temperature = 1.0,
    top_k: AtLeast1 | None = None,
    top_p: TopP | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Classes drawn from softmax(logits / temperature), as it is or among the most probable alone.

    Args:
        logits: [B, C].
        temperature: below 1 favors the probable; 0 takes the most probable.
        top_k: that many classes are kept.
        top_p: of these the fewest most probable whose probability reaches it ("nucleus").
        generator: of the randomness.

    Returns:
        [B] int64 class ids.

    Example:
        >>> sample(torch.tensor([[0.0, 2.0, 1.0]]), temperature=0.0)
        tensor([1])

    Source: Fan, Lewis and Dauphin, Hierarchical neural story generation, ACL 2018 (top k); Holtzman et al.,
    The curious case of neural text degeneration, ICLR 2020, section 3.1 (top p).
    """
    if temperature == 0:
        return logits.argmax(1)
    logits_BK, ids_BK = logits.double(), None
    if top_k is not None or top_p is not None:
        logits_BK, ids_BK = logits_BK.topk(min(top_k or logits.shape[1], logits.shape[1]), dim=1)
    probs_BK = (logits_BK / temperature).softmax(1)
    if top_p is not None:
        before_BK = probs_BK.cumsum(1) - probs_BK
        probs_BK = probs_BK * (before_BK < top_p)
    # The largest p / Exponential(1) is a draw from p, for any number of classes.
    waits_BK = torch.empty_like(probs_BK).exponential_(generator=generator)
    places_B = (probs_BK / waits_BK).argmax(1)
    return places_B if ids_BK is None else ids_BK.gather(1, places_B[:, None])[:, 0]
