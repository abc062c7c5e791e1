"""What attention is and what it is not, each fact as a running check.

Shapes: B sequences, T queries, S keys, D numbers of a token, H heads, E numbers of a token in one head.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from widemax import charts
from widemax.charts import Panel
from widemax.heads import ExactHead
from widemax.numerics import softmax
from widemax.optim import linear_decay
from widemax.recipes.base import Recipe, Results, recipes
from widemax.recipes.known import Known
from widemax.sequences import MultiHeadAttention, Transformer, TransformerLayer, sinusoidal
from widemax.translation import EncoderDecoder

VASWANI = "Vaswani et al., Attention Is All You Need, NeurIPS 2017"
BA = "Ba, Kiros and Hinton, Layer normalization, 2016, equation 3"
IOFFE = "Ioffe and Szegedy, Batch normalization, ICML 2015, algorithm 1"
D, H = 512, 8
LETTERS, LENGTH, START, FIRST = 10, 8, 1, 4
QUICK_STEPS, STEPS = 300, 600
KNOWN = {
    "weights of multi-head attention, d = 512, 8 heads of 64": Known.near(
        4 * D * D, within=0, digits=0, source=f"{VASWANI}, §3.2.2: 4 d² without biases"
    ),
    "the same with 8 heads of 512": Known.near(
        4 * H * D * D, within=0, digits=0, source=f"{VASWANI}, §3.2.2: 4 h d²"
    ),
    "spread of q·k for 64 standard normal numbers, and of q·k/√64": Known.near(
        8.0, 1.0, within=0.1, digits=2, source=f"{VASWANI}, §3.2.1, footnote 4: the variance is d"
    ),
    "layer norm of [[1, 2], [2, 3]], row by row": Known.near(
        -1, 1, -1, 1, within=1e-4, digits=2, source=f"{BA}: each row by its own mean and spread"
    ),
    "batch norm of [[1, 2], [2, 3]], row by row": Known.near(
        -1, -1, 1, 1, within=1e-4, digits=2, source=f"{IOFFE}: each column by its own mean and spread"
    ),
    "decoder passes for 8 tokens, in training and in prediction": Known.near(
        1, 8, within=0, digits=0, source=f"{VASWANI}, §3.1: the mask lets all positions learn at once"
    ),
    "another memory changes keys and values, and no query": Known.yes(
        source=f"{VASWANI}, §3.2.3: queries come from the decoder, keys and values from the encoder"
    ),
    "another target changes queries, and no key or value": Known.yes(
        source=f"{VASWANI}, §3.2.3: so it is no self-attention"
    ),
    "without positions a reordered input gives the reordered output": Known.yes(
        source=f"{VASWANI}, §3.5: order must be injected"
    ),
    "with positions it does": Known.no(source=f"{VASWANI}, §3.5"),
    "later tokens change what a decoder says of earlier ones": Known.no(source=f"{VASWANI}, §3.1"),
    "padding changes what attention finds": Known.no(source="a key that may not be looked at has weight 0"),
    "tokens with a cache differ from those without": Known.no(
        source="keys and values of a token do not depend on later ones"
    ),
    "sequences reversed without a mistake": Known.at_least(
        0.98, digits=2, source="one layer that looks at the mirrored place can do it"
    ),
    "weight on the mirrored place": Known.at_least(
        0.5, digits=2, source="of 8 places one is right; 1/8 would be chance"
    ),
}


@recipes.register("attention-facts")
class AttentionFacts(Recipe):
    """The facts about attention and the Transformer that are most often told wrong."""

    title = "Attention: what it looks at, what it costs, and what it does not see"
    description = (
        "Attention averages values by a softmax over how well keys match a query. From this follow how many "
        "weights it has, why scores are divided by √d, that it knows no order, why training takes one pass "
        "and prediction one a token, and that a decoder's second attention is no self-attention. A small "
        "Transformer learns to reverse letters, and its attention is seen to look at the mirrored place."
    )
    full_time = "10 s"
    known = KNOWN

    def run(self, results: Results, *, quick: bool, seed: int) -> None:
        _obtain_sizes(results)
        _obtain_norms(results)
        _obtain_symmetries(results)
        _obtain_reversal(results, QUICK_STEPS if quick else STEPS)


def _obtain_sizes(results: Results) -> None:
    def weights(head_dim: int | None) -> int:
        attention = MultiHeadAttention(D, H, head_dim=head_dim, bias=False)
        return sum(parameter.numel() for parameter in attention.parameters())

    results.obtain("weights of multi-head attention, d = 512, 8 heads of 64", weights(None))
    results.obtain("the same with 8 heads of 512", weights(D))
    products = (torch.randn(20_000, 64) * torch.randn(20_000, 64)).sum(1)
    spreads = float(products.std()), float((products / 8).std())
    results.obtain("spread of q·k for 64 standard normal numbers, and of q·k/√64", *spreads)
    widths = [2**power for power in range(11)]
    panel = Panel(
        "", "numbers of a query and a key", "largest weight among 32 keys", log_x=True, y_range=(0, 1)
    )
    largest: dict[str, list[float]] = {"q·k": [], "q·k/√d": []}
    for width in widths:
        query_BD, key_BSD = torch.randn(400, width), torch.randn(400, 32, width)
        scores_BS = torch.einsum("bd,bsd->bs", query_BD, key_BSD)
        for name, scale in (("q·k", 1.0), ("q·k/√d", width**-0.5)):
            largest[name].append(float(softmax(scores_BS * scale).max(1).values.mean()))
    panel.lines({name: (widths, values) for name, values in largest.items()}, markers=True)
    results.draw(
        charts.figure(panel),
        "scale",
        title="Why scores are divided by √d",
        caption="The largest of 32 attention weights, for random queries and keys. Without the division "
        "softmax turns into a choice of one key as vectors grow, and its gradient vanishes.",
        alt="Two curves over 1 to 1,024 numbers: that of q·k rises from 0.2 to nearly 1, that of q·k/√d "
        "stays near 0.2.",
    )


def _obtain_norms(results: Results) -> None:
    rows = torch.tensor([[1.0, 2.0], [2.0, 3.0]])
    for name, norm in (("layer", nn.LayerNorm(2)), ("batch", nn.BatchNorm1d(2))):
        results.obtain(f"{name} norm of [[1, 2], [2, 3]], row by row", *norm(rows).flatten().tolist())


@torch.no_grad()
def _obtain_symmetries(results: Results) -> None:
    decoder = Transformer(2, dim=32, num_heads=4, crossed=True).double().eval()
    target, memory = torch.randn(1, LENGTH, 32).double(), torch.randn(1, 6, 32).double()
    first = _asked(decoder, target, memory)
    for name, other, expected in (
        ("another memory changes keys and values, and no query", (target, memory + 1), [True, False]),
        (
            "another target changes queries, and no key or value",
            (torch.randn_like(target), memory),
            [False, True],
        ),
    ):
        pairs = zip(first, _asked(decoder, *other), strict=True)
        results.obtain(name, [torch.equal(*pair) for pair in pairs] == expected)

    passes: list[int] = []
    decoder.register_forward_hook(lambda *_: passes.append(1))
    whole = decoder(target, memory, is_causal=True)
    num_trained, caches = len(passes), decoder.caches()
    steps = [decoder(token, memory, is_causal=True, caches=caches) for token in torch.split(target, 1, 1)]
    counts = num_trained, len(passes) - num_trained
    results.obtain("decoder passes for 8 tokens, in training and in prediction", *counts)
    is_same = torch.allclose(torch.cat(steps, 1), whole)
    results.obtain("tokens with a cache differ from those without", not is_same)
    later = target.clone()
    later[:, 5:] = torch.randn(1, LENGTH - 5, 32)
    changed = not torch.allclose(decoder(later, memory, is_causal=True)[:, :5], whole[:, :5])
    results.obtain("later tokens change what a decoder says of earlier ones", changed)

    attention = MultiHeadAttention(32, 4).double()
    order, waves = torch.randperm(LENGTH), sinusoidal(LENGTH, 32).double()
    for name, positions in (
        ("without positions a reordered input gives the reordered output", 0 * waves),
        ("with positions it does", waves),
    ):
        moved = attention(target[:, order] + positions)
        results.obtain(name, torch.allclose(moved, attention(target + positions)[:, order]))
    where = torch.arange(LENGTH)[None] < 5
    padded = attention(target, where=where)[:, :5]
    results.obtain(
        "padding changes what attention finds", not torch.allclose(padded, attention(target[:, :5]))
    )


def _obtain_reversal(results: Results, num_steps: int) -> None:
    model = EncoderDecoder(dim=32, num_layers=1, num_heads=1, hidden_dim=64, norm="post", rate=0.0)
    head = ExactHead(FIRST + LETTERS, 32, bias=False)
    optimizer = torch.optim.Adam([*model.parameters(), *head.parameters()])
    for step in range(num_steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.006 * linear_decay(step, num_steps, 30)
        source, target, following = _reversals(64)
        optimizer.zero_grad()
        head(model(source, target, head.weight), following.flatten()).backward()
        optimizer.step()
    with torch.no_grad():
        source, target, following = _reversals(500)
        found = head.logits(model.eval()(source, target, head.weight)).argmax(1).view_as(following)
        results.obtain(
            "sequences reversed without a mistake", float((found == following).all(1).float().mean())
        )
        weights_TS = _weights(model, source, target, head.weight).mean(0)
    results.obtain("weight on the mirrored place", float(weights_TS.flip(1).diagonal().mean()))
    panel = Panel("", "letter of the source", "letter that is written", width=430, height=400)
    places = [str(place + 1) for place in range(LENGTH)]
    panel.cells(weights_TS, rows=places, columns=places, limit=1.0, unit="mean weight", digits=2)
    results.draw(
        charts.figure(panel),
        "reversal",
        title="Where a Transformer looks that reverses letters",
        caption="The weights of its attention to the source, averaged over 500 sequences of 8 letters.",
        alt="A table of 8 by 8 weights, large from the upper right to the lower left and small elsewhere.",
    )


def _reversals(number: int) -> tuple[Tensor, Tensor, Tensor]:
    """Letters, their reverse after a start, and their reverse."""
    source = torch.randint(FIRST, FIRST + LETTERS, (number, LENGTH))
    following = source.flip(1)
    target = torch.cat([torch.full((number, 1), START), following[:, :-1]], 1)
    return source, target, following


def _asked(decoder: Transformer, target: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """The queries, and the keys and values, with which the first layer looks at the memory."""
    made: list[Tensor] = []
    layer = decoder.layers[0]
    assert isinstance(layer, TransformerLayer)
    assert layer.crossed is not None
    hooks = [
        part.register_forward_hook(lambda _, __, found: made.append(found))
        for part in (layer.crossed.query, layer.crossed.key_value)
    ]
    decoder(target, memory, is_causal=True)
    for hook in hooks:
        hook.remove()
    return made[0], made[1]


def _weights(model: EncoderDecoder, source: Tensor, target: Tensor, table: Tensor) -> Tensor:
    """[B, T, S] the weights of the attention to the source, of a model with one layer and one head."""
    memory, _ = model.encode(source, table)
    tokens = embedding(target, table) * model.dim**0.5 + sinusoidal(LENGTH, model.dim)
    query_BTE, key_value = _asked(model.decoder, tokens, memory)
    key_BSE = key_value.chunk(2, -1)[0]
    scores_BTS = query_BTE @ key_BSE.transpose(1, 2) / model.dim**0.5
    weights: Tensor = softmax(scores_BTS)
    return weights
