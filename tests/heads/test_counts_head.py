"""The counts head against dense matrices, loops over sequences and brute force over all classes."""

import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from widemax.classes import Classes
from widemax.encoders import HistoryEncoder, to_tensors
from widemax.errors import DataError, LabelError, OptionError, ShapeError
from widemax.heads import CountsHead, SeveralLabels, heads
from widemax.heads import counts as module

F, C, B = 7, 9, 40


def some_rows(seed=0, rows=B, whole=False):
    """Sparse features, and one to three labels a row."""
    rng = np.random.default_rng(seed)
    features = rng.integers(1, 5, (rows, F)) if whole else rng.random((rows, F))
    features = torch.from_numpy(features * (rng.random((rows, F)) < 0.4)).float()
    labels = [rng.choice(C, rng.integers(1, 4), replace=False).tolist() for _ in range(rows)]
    return features, several(labels)


def several(rows):
    offsets = torch.tensor([0, *map(len, rows)]).cumsum(0)
    return SeveralLabels(torch.tensor([label for row in rows for label in row], dtype=torch.int64), offsets)


def indicator(labels):
    matrix = np.zeros((len(labels), C))
    matrix[tuple(labels.pairs())] = 1
    return matrix


def counted(features, labels, **options):
    head = CountsHead(C, F, **options)
    head.partial_fit(features, labels)
    return head


def of_length_1(features, power):
    powered = np.where(features > 0, np.abs(features) ** power, 0)
    return powered / np.maximum(np.linalg.norm(powered, axis=1, keepdims=True), 1e-300)


def expected_log_probs(
    features, labels, hidden, *, p=1.0, a=0.4, b=0.2, q=1.0, r=1.0, keep=400, smoothing=0.1, temperature=1.0
):
    """The formula of the class, with dense matrices."""
    X, Y = of_length_1(features.double().numpy(), p), indicator(labels)
    N = X.T @ Y
    W = N * np.maximum(N.sum(0), 1e-300) ** -b
    for row in W:
        row[np.argsort(-row, kind="stable")[keep:]] = 0
    W = (W * np.maximum(N.sum(1, keepdims=True), 1e-300) ** -a) ** q
    scores = of_length_1(hidden.double().numpy(), p) @ W
    shares = scores / np.where((total := scores.sum(1, keepdims=True)) > 0, total, 1)
    prior = (Y.sum(0) + 1) / (Y.sum() + C)
    beside = np.where(scores > 0, prior**r * C ** (r - 1), prior)
    logits = np.log(shares + smoothing * beside) / temperature
    return torch.from_numpy(logits).log_softmax(1)


@pytest.mark.parametrize(
    "options",
    [{}, {"p": 0.0, "a": 0.0, "b": 0.0, "q": 0.8}, {"p": 2.0, "a": 0.9, "b": 0.6, "q": 0.5, "keep": 3}],
)
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("r", [1.0, 0.5])
def test_the_formula(options, r, sparse, monkeypatch):
    # Products of a few rows at a time.
    monkeypatch.setattr(module.budget, "HELD_ELEMENTS", 20)
    monkeypatch.setattr(module.budget, "CHUNK_ELEMENTS", 10)
    features, labels = some_rows()
    hidden = torch.cat([some_rows(1)[0], torch.zeros(1, F)])
    names = {"p": "value_power", "a": "feature_power", "b": "class_power", "q": "count_power", "keep": "keep"}
    head = CountsHead(C, F, **{names[name]: value for name, value in options.items()})
    for rows in torch.arange(B).split(11):
        part = features[rows]
        head.partial_fit(part.to_sparse() if sparse else part, labels.take(rows))
    head.finish()
    head.smoothing.fill_(0.3)
    head.prior_power.fill_(r)
    head.calibration_temperature.fill_(0.7)
    expected = expected_log_probs(features, labels, hidden, smoothing=0.3, temperature=0.7, r=r, **options)
    found = head.log_probs(hidden.to_sparse() if sparse else hidden, torch.arange(C))
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    # The loss does not follow the calibration.
    one_label = torch.arange(len(hidden)) % C
    nll = -expected_log_probs(features, labels, hidden, smoothing=0.3, r=r, **options).gather(
        1, one_label[:, None]
    )
    found = head(hidden, one_label, reduction="none")
    torch.testing.assert_close(found.double(), nll.squeeze(1), rtol=1e-5, atol=1e-5)


def test_the_counts_are_those_of_dense_matrices():
    features, labels = some_rows()
    head = CountsHead(C, F, value_power=1.0)
    for row in torch.arange(B).split(3):
        head.partial_fit(features[row], labels.take(row))
    expected = of_length_1(features.double().numpy(), 1).T @ indicator(labels)
    np.testing.assert_allclose(head.counts().toarray(), expected, rtol=1e-5)


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(0, B))
def test_the_merge_of_two_parts_is_the_whole(seed, cut):
    features, labels = some_rows(seed)
    rows = torch.arange(B)
    parts = [counted(features[part], labels.take(part)) for part in (rows[:cut], rows[cut:])]
    parts[0].merge(parts[1])
    whole = counted(features, labels)
    np.testing.assert_allclose(parts[0].counts().toarray(), whole.counts().toarray(), rtol=1e-5)
    for head in (parts[0], whole):
        head.finish()
    assert torch.equal(parts[0].prior, whole.prior)
    assert torch.equal(parts[0].class_ids, whole.class_ids)
    torch.testing.assert_close(parts[0].weight, whole.weight, rtol=1e-5, atol=0)


def test_heads_that_do_not_fit_are_not_merged():
    head = CountsHead(C, F)
    with pytest.raises(ShapeError, match="other must have 7 features and 9 classes; got 6 and 9"):
        head.merge(CountsHead(C, F - 1))


def test_histories_are_counted_directed_and_decayed():
    """Every pair of an item and a later one, by a loop over the sequences."""
    rng = np.random.default_rng(0)
    recency, sequences = 0.6, [rng.permutation(C)[: rng.integers(2, 6)].tolist() for _ in range(30)]
    histories = [items[:at] for items in sequences for at in range(1, len(items))]
    following = [items[at] for items in sequences for at in range(1, len(items))]
    encoder = HistoryEncoder([("history", "ids")], dim="features", recency=recency)
    columns = {"history": pa.array(histories, pa.large_list(pa.int64()))}
    encoder.fit([encoder.featurize(columns)], generator=torch.Generator())
    hidden = encoder.eval()(to_tensors(encoder.encode(columns)))
    assert hidden.is_sparse
    assert hidden.shape == (len(histories), encoder.dim)
    head = CountsHead(C, encoder.dim)
    head.partial_fit(hidden, torch.tensor(following))
    items = encoder.encode({"history": pa.array([[item] for item in range(C)], pa.large_list(pa.int64()))})
    feature_of = dict(zip(items["history"].rows.tolist(), items["history"].ids_P.tolist(), strict=True))
    expected = np.zeros((encoder.dim, C))
    for sequence in sequences:
        for at in range(1, len(sequence)):
            length = math.sqrt(sum(recency ** (2 * distance) for distance in range(at)))
            for before in range(at):
                weight = recency ** (at - 1 - before) / length
                expected[feature_of[sequence[before]], sequence[at]] += weight
    np.testing.assert_allclose(head.counts().toarray(), expected, rtol=1e-6)
    assert not np.allclose(expected[: C - 1, : C - 1], expected[: C - 1, : C - 1].T)


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(1, C + 2), st.booleans())
def test_top_k_and_ranks_are_those_of_brute_force(seed, k, tied):
    features, labels = some_rows(seed, whole=tied)
    head = counted(features.sign() if tied else features, labels, keep=4)
    head.finish()
    hidden, asked = some_rows(seed + 1)
    hidden[0] = 0
    exclude = some_rows(seed + 2)[1]
    hidden = hidden.sign() if tied else hidden
    logits_BC = head.logits(hidden)
    log_probs_BC = head.log_probs(hidden, torch.arange(C))
    torch.testing.assert_close(logits_BC.log_softmax(1), log_probs_BC)
    allowed_BC = logits_BC.clone()
    allowed_BC[tuple(exclude.pairs())] = -torch.inf
    answers = head.answer(hidden, asked, k=k, exclude=exclude)
    torch.testing.assert_close(answers.square_sum, log_probs_BC.exp().square().sum(1))
    torch.testing.assert_close(answers.label_log_probs, log_probs_BC[tuple(asked.pairs())])
    for row in range(B):
        own = asked.take(torch.tensor([row])).ids_P
        ranked = allowed_BC[row].clone()
        ranked[own] = logits_BC[row, own]  # a label is ranked even if it is excluded
        best = sorted(range(C), key=lambda c: (-float(ranked[c]), c))[: min(k, C)]
        seen = ranked[best] > -torch.inf
        assert torch.equal(answers.topk.class_ids[row][seen], torch.tensor(best)[seen])
    for place, (row, label) in enumerate(zip(*asked.pairs(), strict=True)):
        others = allowed_BC[row].clone()
        own = asked.take(row[None]).ids_P
        others[own] = logits_BC[row, own]
        before = (others > others[label]) | ((others == others[label]) & (torch.arange(C) < label))
        assert answers.label_ranks[place] == before.sum() + 1


def test_of_equal_classes_those_of_smaller_ids_are_kept():
    head = counted(torch.eye(1, F).repeat(4, 1), torch.tensor([5, 2, 7, 3]), keep=2, class_power=0.0)
    head.finish()
    assert head.class_ids.tolist() == [2, 3]
    assert head.offsets.tolist() == [0, *[2] * F]


def held_out_ndcg(head, hidden, labels, exclude=None):
    answers = head.answer(hidden, labels, k=1, exclude=exclude)
    gains = np.zeros(len(hidden))
    np.add.at(gains, labels.pairs().rows_P, 1 / np.log2(1 + answers.label_ranks.numpy()))
    ideal = [sum(1 / math.log2(2 + place) for place in range(n)) for n in labels.offsets_B1.diff()]
    return float(np.mean(gains / ideal))


def popular_rows(rows, seed):
    """One class stands beside everything; what else a feature means is rare."""
    rng = np.random.default_rng(seed)
    which = rng.integers(0, F, rows)
    features = torch.eye(F)[which]
    labels = [[0, 1 + feature] if rng.random() < 0.5 else [0] for feature in which.tolist()]
    return features, labels


def test_held_out_rows_choose_the_powers():
    features, labels = popular_rows(300, 0)
    hidden, asked = popular_rows(200, 1)
    # Where the popular class is what is asked for, and where it is not.
    for wanted, power in (([[0] for _ in asked], 0.0), ([row[1:] for row in asked], None)):
        head = counted(features, several(labels))
        head.finish(hidden, several(wanted))
        found = head.powers.tolist()
        assert (found[2] == power) if power is not None else found[2] > 0.3
        given = counted(features, several(labels), class_power=0.1, feature_power=0.7, count_power=0.55)
        given.finish(hidden, several(wanted))
        assert given.powers.tolist()[1:] == pytest.approx([0.7, 0.1, 0.55])


def test_no_powers_beside_those_chosen_are_better():
    rng = np.random.default_rng(2)
    probs = rng.dirichlet(np.full(C, 0.1), F)

    def rows(number):
        features = torch.from_numpy((rng.random((number, F)) < 0.3) * rng.random((number, F))).float()
        weights = features.double().numpy() @ probs + 1e-3
        drawn = [rng.choice(C, 2, replace=False, p=row / row.sum()).tolist() for row in weights]
        return features, several(drawn)

    known, asked = rows(400), rows(600)

    def ndcg(head):
        head.finish(*asked)
        head.smoothing.fill_(1e-9)
        return held_out_ndcg(head, *asked)

    head = counted(*known)
    reached = ndcg(head)
    p, a, b, q = head.powers.tolist()
    steps = [(at, bt, 0) for at in (-0.05, 0, 0.05) for bt in (-0.05, 0, 0.05)] + [(0, 0, -0.1), (0, 0, 0.1)]
    beside = [
        ndcg(counted(*known, value_power=p, feature_power=a + at, class_power=b + bt, count_power=q + qt))
        for at, bt, qt in steps
        if a + at <= 1 and b + bt >= 0 and q + qt <= 1
    ]
    assert min(beside) < reached == pytest.approx(max(beside), abs=1e-4)


def test_counts_are_raised_to_a_power_only_where_more_than_chance_gains_by_it(monkeypatch):
    rng = np.random.default_rng(3)

    def by_chance(count):
        features = torch.from_numpy(rng.random((count, F)) < 0.3).float()
        return features, torch.from_numpy(rng.integers(0, C, count))

    known, asked = by_chance(200), by_chance(300)

    def power():
        head = CountsHead(C, F)
        head.partial_fit(*known)
        head.finish(*asked)
        return float(head.powers[3])

    assert power() == 1
    monkeypatch.setattr(module, "BEYOND_NOISE", -1e9)
    assert power() < 1


@pytest.mark.parametrize(("untold", "num_rows", "power"), [(0.2, 300, 0.5), (0.5, 3000, 1.0)])
def test_the_prior_is_flatter_where_held_out_rows_are_ranked_better(untold, num_rows, power, monkeypatch):
    """Of some rows the label is a popular class whatever their feature, of others one of its five."""
    popular = 1 / np.arange(1, 61) ** 1.2

    def rows(count, seed):
        rng = np.random.default_rng(seed)
        feature = rng.integers(0, 10, count)
        own = 59 - 5 * feature - rng.integers(0, 5, count)
        drawn = rng.choice(60, count, p=popular / popular.sum())
        labels = np.where(rng.random(count) < untold, drawn, own)
        return torch.eye(10)[torch.from_numpy(feature)], torch.from_numpy(labels)

    def fitted():
        head = CountsHead(60, 10)
        head.partial_fit(*rows(num_rows, 0))
        head.finish(*asked)
        return head

    asked = rows(2000, 1)
    head = fitted()
    assert head.prior_power == power
    monkeypatch.setattr(module, "FLATTER", 1.0)
    several_labels = several([[label] for label in asked[1].tolist()])
    reached, usual = (held_out_ndcg(each, asked[0], several_labels) for each in (head, fitted()))
    assert reached > usual if power < 1 else reached == usual


def test_excluded_classes_do_not_decide():
    features, labels = popular_rows(300, 0)
    hidden, asked = popular_rows(200, 1)
    wanted, zero = several([row[1:] for row in asked]), several([[0] for _ in asked])
    free, limited = (counted(features, several(labels)) for _ in range(2))
    free.finish(hidden, wanted)
    limited.finish(hidden, wanted, exclude=zero)
    assert free.powers[2] > limited.powers[2]


def test_smoothing_and_temperature_make_held_out_rows_likelier():
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.full(C, 0.3), F)

    def rows(number):
        which = rng.integers(0, F, number)
        return torch.eye(F)[which], torch.tensor([rng.choice(C, p=probs[feature]) for feature in which])

    (features, labels), (hidden, asked), (fresh, of_fresh) = rows(60), rows(2000), rows(2000)
    head = counted(features, labels, feature_power=0.5, class_power=0.0)
    head.finish()
    before = -float(head.answer(fresh, of_fresh, k=1).label_log_probs.mean())
    head.finish(hidden, asked)
    after = -float(head.answer(fresh, of_fresh, k=1).label_log_probs.mean())
    entropy = -float((probs * np.log(probs)).sum(1).mean())
    assert entropy < after < before - 0.02
    assert head.smoothing != pytest.approx(0.1)


def test_a_row_that_says_nothing_is_answered_by_the_frequencies_of_the_classes():
    features, labels = popular_rows(300, 0)
    head = counted(features, several(labels))
    hidden, asked = popular_rows(200, 1)
    head.finish(hidden, several(asked))
    assert head.calibration_temperature != 1
    counts_C = torch.bincount(several(labels).ids_P, minlength=C) + 1.0
    for _ in range(2):  # the second fit keeps what the first one chose
        found = head.log_probs(torch.zeros(1, F), torch.arange(C)).exp()
        torch.testing.assert_close(found[0], counts_C / counts_C.sum())
        head.finish()


def test_smoothing_and_temperature_are_those_of_the_least_nll():
    """Half of the labels are popular ones that no feature tells, which needs much smoothing."""
    rng = np.random.default_rng(0)
    popularity = 1 / np.arange(1, 2001)

    def rows(number):
        which = (rng.pareto(1.2, (number, 4)) * 3).astype(int) % 500
        popular = rng.choice(2000, number, p=popularity / popularity.sum())
        own = (which[np.arange(number), rng.integers(0, 4, number)] * 37 + rng.integers(0, 50, number)) % 2000
        features = torch.zeros(number, 500)
        features[np.arange(number)[:, None], which] = 1
        return features, torch.from_numpy(np.where(rng.random(number) < 0.5, own, popular))

    head = CountsHead(2000, 500)
    head.partial_fit(*rows(3000))
    hidden, asked = rows(1500)
    head.finish(hidden, asked)

    def nll():
        return -float(head.answer(hidden, asked, k=1).label_log_probs.mean())

    least = nll()
    for number in (head.smoothing, head.calibration_temperature):
        for factor in (0.8, 1.25):
            number.mul_(factor)
            assert nll() > least
            number.div_(factor)


@pytest.mark.parametrize("matters", [True, False])
def test_held_out_rows_tell_whether_values_matter(matters):
    """The label is the feature of the largest value, or what two features say together."""
    rng = np.random.default_rng(0)

    def rows(number):
        features, labels = torch.zeros(number, F), []
        for row in range(number):
            pair = rng.choice(F, 2, replace=False)
            features[row, pair] = torch.tensor([1.0, 0.3] if matters else 10 ** rng.uniform(-2, 2, 2)).float()
            labels.append(int(pair[0] if matters else pair.sum() % C))
        return features, several([[label] for label in labels])

    counted_rows, held_out = rows(400), rows(400)
    head, fixed = (counted(*counted_rows, value_power=power) for power in ("auto", 0.5))
    for each in (head, fixed):
        each.finish(*held_out)
    assert fixed.powers[0] == 0.5
    assert (head.powers[0] > 0) == matters
    ndcg = {}
    for power in module.VALUE_POWERS:
        one = counted(*counted_rows, value_power=power)
        one.finish(*held_out)
        one.smoothing.fill_(1e-9)
        ndcg[power] = held_out_ndcg(one, *held_out)
    assert ndcg[float(head.powers[0])] == pytest.approx(max(ndcg.values()), abs=1e-3)


def test_powers_of_values_that_are_alike_are_not_tried():
    features, labels = popular_rows(300, 0)
    hidden, asked = popular_rows(200, 1)
    features, hidden = (torch.cat([each, each.roll(1, 1)], 1) for each in (features, hidden))
    features *= torch.rand(len(features), 1) + 1  # alike in each row
    heads = [CountsHead(C, 2 * F, value_power=value_power) for value_power in ("auto", *module.VALUE_POWERS)]
    for head in heads:
        head.partial_fit(features, several(labels))
        head.finish(hidden, several(asked))
    assert heads[0].powers[0] == 1
    for head in heads[1:]:
        assert torch.equal(head.powers[1:], heads[0].powers[1:])
        torch.testing.assert_close(head.weight, heads[0].weight)


def test_an_unknown_held_out_label_is_passed_over():
    features, labels = some_rows()
    head, other = counted(features, labels), counted(features, labels)
    head.finish(*some_rows(1))
    hidden, asked = some_rows(1)
    unknown = SeveralLabels(
        torch.cat([asked.ids_P, torch.tensor([-1])]), torch.cat([asked.offsets_B1, asked.offsets_B1[-1:] + 1])
    )
    other.finish(torch.cat([hidden, hidden[:1]]), unknown)
    for name, tensor in head.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name
    only_unknown = counted(features, labels)
    only_unknown.finish(hidden[:1], torch.tensor([-1]))
    assert only_unknown.powers.tolist() == CountsHead(C, F).powers.tolist()


def test_training_goes_on_to_the_same_bits():
    features, labels = some_rows()
    whole, stopped, resumed = (CountsHead(C, F) for _ in range(3))
    for number, rows in enumerate(torch.arange(B).split(3)):
        whole.partial_fit(features[rows], labels.take(rows))
        (stopped if number < 5 else resumed).partial_fit(features[rows], labels.take(rows))
        if number == 4:
            resumed.load_training_state(
                {name: value.clone() for name, value in stopped.training_state().items()}
            )
            resumed.load_state_dict(stopped.state_dict())
    for head in (whole, resumed):
        head.finish()
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


def test_a_state_fills_a_head_that_has_counted_nothing():
    features, labels = some_rows()
    head, other = counted(features, labels), CountsHead(C, F)
    head.finish(*some_rows(1))
    assert other.load_state_dict(head.state_dict()) == ([], [])
    hidden = some_rows(2)[0]
    assert torch.equal(other.logits(hidden), head.logits(hidden))


def broken(name, change):
    head = counted(*some_rows(), keep=3)
    head.finish()
    assert all(holds for holds, _ in head.laws())
    setattr(head, name, change(getattr(head, name).clone()))
    return next(law for holds, law in head.laws() if not holds)


@pytest.mark.parametrize(
    ("name", "change", "law"),
    [
        ("offsets", lambda offsets: offsets + 1, "offsets that rise"),
        ("offsets", lambda offsets: offsets.flip(0), "offsets that rise"),
        ("class_ids", lambda ids: ids - 1, "class ids within"),
        ("class_ids", lambda ids: ids + C, "class ids within"),
        ("class_ids", lambda ids: ids.flip(0), "that rise for each feature"),
        ("class_ids", lambda ids: ids * 0, "that rise for each feature"),
        ("weight", lambda weight: -weight, "a weight above 0"),
        ("weight", lambda weight: weight[1:], "a weight above 0"),
        ("prior", lambda prior: prior * 0, "a prior"),
        ("prior", lambda prior: prior * 2, "a prior"),
        ("smoothing", lambda smoothing: smoothing * 0, "a smoothing"),
        ("smoothing", lambda smoothing: smoothing + 100, "a smoothing"),
        ("powers", lambda powers: powers - 2, "powers within"),
        ("powers", lambda powers: powers + 1, "powers within"),
        ("powers", lambda powers: powers * 0, "the last one above 0"),
        ("calibration_temperature", lambda temperature: -temperature, "a calibration temperature"),
    ],
)
def test_a_state_that_no_head_has_is_found(name, change, law):
    assert law in broken(name, change)


def test_without_features_the_most_frequent_class_is_the_answer():
    head = counted(torch.ones(5, F), torch.tensor([3, 3, 3, 1, 1]))
    head.finish()
    assert head.topk(torch.zeros(1, F), 2).class_ids.tolist() == [[3, 1]]
    # Before any row the counts of the classes are all that is known.
    assert CountsHead(Classes(3, torch.tensor([1, 5, 2])), F).topk(
        torch.ones(1, F), 3
    ).class_ids.tolist() == [[1, 2, 0]]


def test_what_is_below_0_is_no_feature():
    head = counted(*some_rows())
    head.finish()
    hidden = some_rows(1)[0] - 0.3
    assert torch.equal(head.logits(hidden), head.logits(hidden.clamp(min=0)))


def test_what_cannot_be_counted_is_refused():
    head = CountsHead(C, F)
    labels = torch.tensor([1, 2])
    for value in (-1.0, math.nan, math.inf):
        features = torch.ones(2, F)
        features[1, 3] = value
        with pytest.raises(DataError, match=f"finite and at least 0 to be counted; row 1 has {value}"):
            head.partial_fit(features, labels)
    with pytest.raises(ShapeError, match=r"hidden must be \[B, 7\], the features; got \(2, 3\)"):
        head.partial_fit(torch.ones(2, 3), labels)
    with pytest.raises(LabelError, match="row 1"):
        head.partial_fit(torch.ones(2, F), torch.tensor([0, C]))
    with pytest.raises(OptionError, match="option 'class_power' of head 'counts' must be a number in"):
        heads["counts"](C, F, class_power=2.0)
    assert not head.counts().nnz


def test_rows_of_any_size_of_values_are_counted():
    tiny = counted(torch.full((1, F), 1e-40), torch.tensor([2]), value_power=8.0)
    usual = counted(torch.ones(1, F), torch.tensor([2]), value_power=8.0)
    np.testing.assert_allclose(tiny.counts().toarray(), usual.counts().toarray(), rtol=1e-6)


@pytest.mark.parametrize("both_ways", [False, True])
def test_the_factors_are_those_of_dense_matrices(both_ways):
    features, labels = some_rows(rows=200)
    head = counted(features, labels, value_power=1.0)
    classes_CF = torch.from_numpy(np.random.default_rng(1).random((C, F), np.float32)) if both_ways else None
    left, right = head.factors(3, generator=torch.Generator().manual_seed(0), classes=classes_CF)
    counts = of_length_1(features.double().numpy(), 1).T @ indicator(labels)
    if classes_CF is not None:
        counts = counts + classes_CF.T.double().numpy() @ counts.T @ classes_CF.T.double().numpy()
    scale_F, scale_C = counts.sum(1) ** -0.5, counts.sum(0) ** -0.5
    U, S, V = np.linalg.svd(scale_F[:, None] * counts * scale_C, full_matrices=False)
    expected = scale_F[:, None] * (U[:, :3] * S[:3]) @ V[:3]
    np.testing.assert_allclose(left @ right.T, expected, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose((right**2).sum(0), S[:3], rtol=1e-4)
    # No more than there are, and nothing where nothing was counted.
    left, right = CountsHead(C, F).factors(F, generator=torch.Generator())
    assert (left.shape, right.shape) == ((F, F), (C, F))
    assert not left.any()
    assert not right.any()
