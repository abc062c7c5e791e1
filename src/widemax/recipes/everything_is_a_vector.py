"""Entities, users, items and words as vectors that one loop learns: a softmax over vectors.

Shapes: N examples, B of a batch, D numbers of a vector, C classes, Q questions, P labels of all of them.
"""

import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import permutations

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from widemax import charts
from widemax.charts import Panel
from widemax.classes import Classes
from widemax.data import resolve
from widemax.heads import CountsHead, SampledHead, SeveralLabels
from widemax.optim import LazyAdam, RowOptimizer, RowwiseAdagrad, linear_decay
from widemax.recipes.base import Recipe, Results, recipes
from widemax.recipes.known import Known
from widemax.search import ExactIndex

BATCH = 1024
QUESTIONS_AT_ONCE = 512
TOKEN = re.compile("[a-z]+")
COMMONEST = 60
"""So many words, such as "of", stand beside everything."""
TOPICS = {
    "animals": ("dog", "cat", "horse", "cow", "fish", "bird", "snake", "insect"),
    "family": ("father", "mother", "son", "daughter", "brother", "sister", "wife", "husband"),
    "colors": ("red", "blue", "green", "yellow", "black", "white", "brown", "purple"),
    "money": ("money", "payment", "price", "bank", "debt", "tax", "loan", "income"),
    "time": ("day", "week", "month", "year", "hour", "minute", "century", "season"),
}
"""Words that are drawn."""
ASKED = ("mother", "purple", "river", "doctor", "music", "thousand")
"""Words whose nearest ones are told."""


@recipes.register("everything-is-a-vector")
class EverythingIsAVector(Recipe):
    """Facts, visits and definitions: in each a vector is asked for another one."""

    title = "Everything is a vector: entities, users and items, words"
    description = (
        "One loop learns three things. Which entity a fact leads to: the query is the product of the complex "
        "vectors of an entity and a relation, and the classes are the same entities. Which place somebody "
        "visits: a vector a user, a vector a place. Which word stands beside another in a definition. Each "
        "is a softmax over tens of thousands of vectors, of which a step draws some, and each is asked "
        "exactly, over all of them."
    )
    data = ("wn18rr", "gowalla", "open_english_wordnet")
    full_time = "8 min"
    known = {  # noqa: RUF012 - read only
        "entities: filtered MRR": Known.at_least(
            0.44,
            digits=3,
            source="ComplEx on WN18RR: .44 in Dettmers et al. 2018, Convolutional 2D Knowledge Graph "
            "Embeddings, table 4; .48 in Lacroix et al. 2018, Canonical Tensor Decomposition, table 2",
        ),
        "entities: hits among the first 10": Known.at_least(
            0.51, digits=3, source="ComplEx on WN18RR in Dettmers et al. 2018, table 4"
        ),
        "users and items: recall@20": Known.at_least(
            0.156, digits=3, source="implicit's alternating least squares with 128 factors, measured"
        ),
    }

    def run(self, results: Results, *, quick: bool, seed: int) -> None:
        entities(results, quick=quick, seed=seed)
        users_and_items(results, quick=quick, seed=seed)
        words(results, quick=quick, seed=seed)


def rows_of(table: Tensor, ids_B: Tensor) -> Tensor:
    """Rows [B, D] of a table, which alone get a gradient."""
    return nn.functional.embedding(ids_B, table, sparse=True)


class Lookup(nn.Module):
    """A vector of its own for each context, [N, D] to start with."""

    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        self.vectors = nn.Parameter(vectors)

    def forward(self, contexts_B1: Tensor) -> tuple[Tensor, Tensor | float]:
        """Queries [B, D], and what is added to the loss."""
        return rows_of(self.vectors, contexts_B1[:, 0]), 0.0


class ComplEx(nn.Module):
    """The product of the complex vectors of an entity and a relation; ⟨product, t̄⟩ says how true a fact is.

    The first half of D numbers are the real parts. ``penalty`` times Σ |z|³ over both entities and the
    relation of a fact, in the mean of a batch, is added to the loss.

    Source: Trouillon et al. 2016, "Complex Embeddings for Simple Link Prediction"; Lacroix et al. 2018,
    "Canonical Tensor Decomposition for Knowledge Base Completion" (the penalty N3, inverse relations).
    """

    def __init__(self, num_entities: int, num_relations: int, dim: int, *, penalty: float) -> None:
        super().__init__()
        self.entities = nn.Parameter(0.1 * torch.randn(num_entities, dim))
        self.relations = nn.Parameter(0.3 * torch.randn(num_relations, dim))
        self.penalty = penalty

    def forward(self, contexts_B2: Tensor) -> tuple[Tensor, Tensor | float]:
        """Queries [B, D], and what is added to the loss."""
        factors = rows_of(self.entities, contexts_B2[:, 0]), rows_of(self.relations, contexts_B2[:, 1])
        (re_BR, im_BR), (of_re_BR, of_im_BR) = (factor.chunk(2, 1) for factor in factors)
        product = re_BR * of_re_BR - im_BR * of_im_BR, re_BR * of_im_BR + im_BR * of_re_BR
        of_head, of_relation = ((torch.hypot(*factor.chunk(2, 1)) ** 3).sum(1).mean() for factor in factors)
        # Twice, in place of tails: with inverse relations each tail is a head as often.
        return torch.cat(product, 1), self.penalty * (2 * of_head + of_relation)


def learn(
    queries: nn.Module,
    head: SampledHead,
    contexts: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    optimizer: Callable[..., RowOptimizer],
    seed: int,
) -> None:
    """Steps of the sampled softmax whose classes are the right answers ``labels`` [N] and those drawn.

    Args:
        queries: from contexts [B, n] to vectors [B, D], and what is added to the loss.
        contexts: [N, n].
        optimizer: of parameters; its learning rate falls to 0.
    """
    head.seed(seed)
    generator = torch.Generator().manual_seed(seed)
    parameters = {id(p): p for module in (queries, head) for p in module.parameters()}
    steps = optimizer(parameters.values())
    rate = steps.param_groups[0]["lr"]
    total = epochs * -(-len(labels) // BATCH)
    orders = (torch.randperm(len(labels), generator=generator) for _ in range(epochs))
    batches = (rows_B for order_N in orders for rows_B in torch.split(order_N, BATCH))
    for step, rows_B in enumerate(batches):
        steps.param_groups[0]["lr"] = rate * linear_decay(step, total)
        steps.zero_grad()
        queries_BD, penalty = queries(contexts[rows_B])
        (head(queries_BD, labels[rows_B]) + penalty).backward()
        steps.step()


@torch.no_grad()
def ranks(
    queries: nn.Module, head: SampledHead, contexts_Q: Tensor, labels: SeveralLabels, known: SeveralLabels
) -> Tensor:
    """[P] the exact rank of each label among all classes that are not known already."""
    found = []
    for rows in torch.split(torch.arange(len(contexts_Q)), QUESTIONS_AT_ONCE):
        asked = queries(contexts_Q[rows])[0]
        found.append(head.answer(asked, labels.take(rows), k=1, exclude=known.take(rows)).label_ranks)
    return torch.cat(found)


def nearest(vectors: Tensor, ids_Q: Tensor, k: int) -> Tensor:
    """[Q, k] the vectors with the largest cosines to some of them, without these themselves."""
    found = ExactIndex(vectors.detach(), metric="cosine").topk(vectors.detach()[ids_Q], k + 1).ids
    return torch.stack([row[row != own][:k] for row, own in zip(found, ids_Q, strict=True)])


def grouped(keys_N: Tensor, ids_N: Tensor, num_keys: int) -> SeveralLabels:
    """The ids of each key."""
    order_N = torch.argsort(keys_N, stable=True)
    ends = torch.bincount(keys_N, minlength=num_keys).cumsum(0)
    return SeveralLabels(ids_N[order_N], nn.functional.pad(ends, (1, 0)))


def entities(results: Results, *, quick: bool, seed: int) -> None:
    """Facts of WordNet, each asked from both of its ends."""
    splits = [
        pq.read_table(path) for path in resolve([f"wn18rr:{split}" for split in ("train", "valid", "test")])
    ]
    heads, relations, tails = (
        np.concatenate([split[name].to_numpy() for split in splits]) for name in ("head", "relation", "tail")
    )
    names, ids = np.unique(np.concatenate([heads, tails]), return_inverse=True)
    kinds, relation_N = np.unique(relations, return_inverse=True)
    head_N, tail_N = np.split(ids, 2)
    facts_N3 = torch.from_numpy(np.stack([head_N, relation_N, tail_N], 1))
    inverse_N3 = facts_N3[:, [2, 1, 0]] + torch.tensor([0, len(kinds), 0])
    num_train, num_test = len(splits[0]), len(splits[2])
    train_N3 = torch.cat([facts_N3[:num_train], inverse_N3[:num_train]])
    test_Q3 = torch.cat([facts_N3[-num_test:], inverse_N3[-num_test:]])
    if quick:
        test_Q3 = test_Q3[::20]
    queries = ComplEx(len(names), 2 * len(kinds), 64 if quick else 300, penalty=0.1)
    head = SampledHead(
        len(names),
        queries.entities.shape[1],
        queries.entities,
        bias=False,
        num_sampled=256 if quick else 1024,
        sampler="uniform",
    )
    learn(
        queries,
        head,
        train_N3[:, :2],
        train_N3[:, 2],
        epochs=1 if quick else 14,
        optimizer=partial(RowwiseAdagrad, lr=0.1),
        seed=seed,
    )
    # What is known of a question: every entity that makes it a fact, whichever split that stands in.
    every_N3 = torch.cat([facts_N3, inverse_N3])
    key_N, key_Q = (facts[:, 0] * 2 * len(kinds) + facts[:, 1] for facts in (every_N3, test_Q3))
    keys, key_N = torch.unique(key_N, return_inverse=True)
    known = grouped(key_N, every_N3[:, 2], len(keys)).take(torch.searchsorted(keys, key_Q))
    labels = SeveralLabels.of(test_Q3[:, 2].contiguous())
    ranks_Q = ranks(queries, head, test_Q3[:, :2], labels, known).double()
    results.obtain("entities: filtered MRR", float((1 / ranks_Q).mean()))
    results.obtain("entities: hits among the first 10", float((ranks_Q <= 10).double().mean()))
    relation_Q = test_Q3[:, 1] % len(kinds)
    asked = [place for place in range(len(kinds)) if (relation_Q == place).any()]
    panel = Panel(y="filtered MRR", width=900)
    shown = [str(kinds[place]).strip("_").replace("_", " ") for place in asked]
    panel.bars(shown, {"mean of 1 / rank": [(1 / ranks_Q[relation_Q == place]).mean() for place in asked]})
    results.draw(
        charts.figure(panel),
        "relations",
        title="What a fact leads to, by its relation",
        caption="The filtered mean reciprocal rank of test facts, asked from both of their ends.",
        alt="Bars of eleven relations: those that hold both ways, such as derivationally related form, are "
        "found nearly always, hypernyms seldom.",
    )
    one_N, other_N = facts_N3[:, 0].tolist(), facts_N3[:, 2].tolist()
    linked = {*zip(one_N, other_N, strict=True), *zip(other_N, one_N, strict=True)}
    some_Q = torch.unique(test_Q3[:, 0])[:1000]
    near_Q = nearest(queries.entities, some_Q, 1)[:, 0]
    share = np.mean([pair in linked for pair in zip(some_Q.tolist(), near_Q.tolist(), strict=True)])
    results.find(
        f"Of 1,000 entities {share:.0%} stand in a fact with their nearest one of {len(names):,}, whichever "
        "the relation."
    )


def paired(
    contexts_N: Tensor, classes_N: Tensor, sizes: tuple[int, int], *, quick: bool, seed: int
) -> tuple[Lookup, SampledHead]:
    """Vectors of contexts and of classes that stand together: from their factors on, trained by cosines."""
    (num_contexts, num_classes), num_pairs = sizes, len(contexts_N)
    counts = CountsHead(num_classes, num_contexts)
    places = torch.stack([torch.arange(num_pairs), contexts_N])
    one_hot = torch.sparse_coo_tensor(
        *(places, torch.ones(num_pairs), (num_pairs, num_contexts)), check_invariants=False
    )
    counts.partial_fit(one_hot, classes_N)
    dim = min(32 if quick else 128, *sizes)
    tables = counts.factors(dim, generator=torch.Generator().manual_seed(seed))
    start, weight = (table.float() * len(table) ** 0.5 / table.norm() for table in tables)
    queries = Lookup(start)
    head = SampledHead(
        Classes(num_classes, torch.bincount(classes_N, minlength=num_classes)),
        dim,
        nn.Parameter(weight),
        score="cosine",
        temperature=0.1,
        num_sampled=512,
        sampler="uniform",
    )
    contexts_N1 = contexts_N[:, None]
    learn(
        queries,
        head,
        contexts_N1,
        classes_N,
        epochs=1 if quick else 4,
        optimizer=partial(LazyAdam, lr=0.005),
        seed=seed,
    )
    return queries, head


def users_and_items(results: Results, *, quick: bool, seed: int) -> None:
    """Who went where, and where else they go."""
    users, items = [], []
    for split in ("train", "test"):
        table = pq.read_table(resolve([f"gowalla:{split}"])[0])
        places = table["items"].combine_chunks()
        users.append(np.repeat(table["user"].to_numpy(), pc.list_value_length(places).to_numpy()))
        items.append(places.flatten().to_numpy())
    (user_N, user_P), (item_N, item_P) = (map(torch.tensor, parts) for parts in (users, items))
    sizes = max(map(np.max, users)) + 1, max(map(np.max, items)) + 1
    queries, head = paired(user_N, item_N, sizes, quick=quick, seed=seed)
    asked_Q = torch.unique(user_P)[:: 20 if quick else 1]
    wanted, seen = (grouped(*pairs, sizes[0]).take(asked_Q) for pairs in ((user_P, item_P), (user_N, item_N)))
    ranks_P = ranks(queries, head, asked_Q[:, None], wanted, seen)
    rows_P, _ = wanted.pairs()
    found_Q = torch.bincount(rows_P, (ranks_P <= 20).double(), minlength=len(asked_Q))
    results.obtain("users and items: recall@20", float((found_Q / wanted.offsets_B1.diff()).mean()))


def words(results: Results, *, quick: bool, seed: int) -> None:
    """Words that stand in one definition."""
    definitions = pc.unique(pq.read_table(resolve(["open_english_wordnet"])[0])["definition"])
    texts = [TOKEN.findall(text.lower()) for text in definitions.to_pylist()]
    counts = Counter(word for text in texts for word in text)
    vocabulary = [word for word, amount in counts.most_common(1000 if quick else 12_000)[COMMONEST:]]
    ids = {word: place for place, word in enumerate(vocabulary)}
    pairs = [(ids[one], ids[other]) for text in texts for one, other in permutations({*text} & ids.keys(), 2)]
    pairs_N2 = torch.tensor(pairs)
    queries, _ = paired(pairs_N2[:, 0], pairs_N2[:, 1], (len(ids), len(ids)), quick=quick, seed=seed)
    vectors = queries.vectors
    asked = [word for word in ASKED if word in ids]
    near = nearest(vectors, torch.tensor([ids[word] for word in asked]), 5).tolist()
    for word, row in zip(asked, near, strict=True):
        results.find(f"Near “{word}”: {', '.join(vocabulary[place] for place in row)}")
    drawn = {topic: [word for word in some if word in ids] for topic, some in TOPICS.items()}
    shown = [word for some in drawn.values() for word in some]
    unit_QD = nn.functional.normalize(vectors.detach()[[ids[word] for word in shown]])
    _, _, axes_DD = torch.linalg.svd(unit_QD - unit_QD.mean(0))
    points_Q2 = (unit_QD @ axes_DD[:2].T).numpy()
    panel = Panel(width=900, height=560)
    topics = [place for place, some in enumerate(drawn.values()) for _ in some]
    panel.scatter(points_Q2, topics, list(drawn))
    for (x, y), word in zip(points_Q2, shown, strict=True):
        panel.note(x, y, word)
    results.draw(
        charts.figure(panel),
        "words",
        title="Words by their vectors",
        caption="The two directions in which the unit vectors of these words differ most. Nobody said what a "
        "word means: those that stand in definitions beside the same words lie together.",
        alt="Forty words in five colors: animals, relatives, colors, money and times lie in groups.",
    )
