"""The part of the nearest training rows: the formula over all rows, and when it is taken."""

from pathlib import Path

import numpy as np
import pandas
import pytest
import torch

from widemax import Config, Model, evaluate, train
from widemax.errors import CorruptError
from widemax.heads import ExactHead
from widemax.neighbors import Neighbors


@pytest.mark.parametrize("num_numbers", [3, 20])
def test_answers_are_the_formula_over_all_rows_and_classes(num_numbers: int) -> None:
    rng = np.random.default_rng(0)
    rows, spread = rng.normal(size=(40, num_numbers)), rng.uniform(0.5, 2, num_numbers)
    labels, numbers, hidden = rng.integers(0, 7, 40), rng.normal(size=(9, num_numbers)), torch.randn(9, 4)
    head = ExactHead(7, 4)
    given = (torch.from_numpy(each).float() for each in (rows, spread, numbers))
    rows, spread, numbers = given
    neighbors = Neighbors(rows, torch.from_numpy(labels), spread, 0.3, 4)
    found = neighbors.answer(head, hidden, numbers, torch.arange(9) % 8 - 1, k=7)

    distances = (((numbers[:, None] - rows) / spread).double() ** 2).sum(2).numpy()
    nearest = distances.argsort(1)[:, :4]
    expected = 0.7 * head.logits(hidden).softmax(1).detach().double().numpy()
    for row in range(9):
        for place, share in zip(nearest[row], np.array([12, 6, 4, 3]) / 25, strict=True):
            expected[row, labels[place]] += 0.3 * share
    np.testing.assert_allclose(found.square_sum, (expected**2).sum(1), rtol=1e-5)
    np.testing.assert_array_equal(found.topk.class_ids, (-expected).argsort(1))
    np.testing.assert_allclose(found.topk.log_probs.exp(), -np.sort(-expected), rtol=1e-5)
    known = np.arange(9) % 8 - 1
    assert found.label_ranks[0] == found.label_ranks[8] == 0
    for row in range(1, 8):
        own = expected[row, known[row]]
        assert found.label_log_probs[row].exp().item() == pytest.approx(own, rel=1e-5)
        assert found.label_ranks[row] == 1 + (expected[row] > own).sum()


def test_a_column_that_says_nothing_counts_little_and_a_sure_head_wants_no_neighbors() -> None:
    rng = np.random.default_rng(0)
    sides = rng.integers(0, 2, 600)
    numbers = torch.from_numpy(np.c_[sides + rng.normal(size=600) / 20, rng.normal(size=600) * 3]).float()
    labels = torch.from_numpy(sides)
    held_out = numbers[:400], labels[:400], numbers[400:], labels[400:]
    found = Neighbors.fit(*held_out, torch.full((200,), 0.6).log(), most=16)
    assert found is not None
    assert found.weight > 0.8
    assert (found.classes(numbers[400:])[:, 0] == labels[400:]).all()
    assert Neighbors.fit(*held_out, torch.full((200,), 0.999).log(), most=16) is None
    wrong = (*held_out[:3], 1 - labels[400:])
    assert Neighbors.fit(*wrong, torch.full((200,), 0.6).log(), most=16) is None


def test_few_rows_give_neighbors_little_weight() -> None:
    numbers = torch.tensor([[0.0], [0.1], [1.0], [1.1]])
    labels = torch.tensor([0, 0, 1, 1])
    found = Neighbors.fit(numbers, labels, numbers, labels, torch.full((4,), 0.5).log(), most=1)
    assert found is None or found.weight < 0.3


def steps(num_rows: int, seed: int) -> pandas.DataFrame:
    """Places and which of sixty fields, far narrower than a small perceptron tells apart, they lie in."""
    places = np.random.default_rng(seed).uniform(size=num_rows)
    return pandas.DataFrame(
        {"x": places, "word": "so", "label": [f"field {place}" for place in (places * 60).astype(int) % 5]}
    )


@pytest.mark.parametrize("kinds", [{}, {"word": "text"}])
def test_trained_with_neighbors_saved_and_evaluated(tmp_path: Path, kinds: dict[str, str]) -> None:
    columns = ["x", *kinds]

    def fitted(name: str, **options: int) -> Model:
        config = Config(
            data={"target": "label", "input": columns, "kinds": kinds},
            encoder={"dim": 8},
            train={"epochs": 2, **options},
            output={"dir": str(tmp_path / name)},
        )
        return train(config, data=steps(900, 0)).model

    model, alone = fitted("run"), fitted("alone", neighbors=0)
    new = steps(300, 1)
    metrics = evaluate(model, new)
    assert metrics["accuracy"] > evaluate(alone, new)["accuracy"] + 0.2
    assert model.neighbors is not None
    assert len(model.neighbors.rows) == 900
    assert alone.neighbors is None
    answers = model.predict(new, k=5)
    assert [sum(each.probability for each in row) for row in answers] == pytest.approx([1.0] * 300)
    right = [row[0].label == label for row, label in zip(answers, new["label"], strict=True)]
    assert metrics["accuracy"] == pytest.approx(np.mean(right))
    assert Model.load(tmp_path / "run").predict(new, k=5) == answers
    assert fitted("again").predict(new, k=5) == answers
    assert model.predict(new[:0]) == []
    model.save(tmp_path / "small", precision="int8")
    kept = Model.load(tmp_path / "small").neighbors
    assert kept is not None
    assert torch.equal(kept.rows, model.neighbors.rows)
    assert "neighbors" in repr(model)


@pytest.mark.parametrize(
    "wrong",
    [
        {"labels": torch.tensor([0, 3], dtype=torch.int32)},
        {"labels": torch.tensor([0, 2])},
        {"spread": torch.ones(2)},
        {"spread": torch.zeros(1)},
        {"weight": torch.tensor(1.0, dtype=torch.float64)},
        {"num_neighbors": torch.tensor(3)},
    ],
)
def test_neighbors_that_do_not_belong_together_are_refused(wrong: dict[str, torch.Tensor]) -> None:
    state = Neighbors(torch.ones(2, 1), torch.tensor([0, 2]), torch.ones(1), 0.5, 1).state()
    assert Neighbors.of_state(state, num_classes=3).weight == 0.5
    for broken in (state | wrong, {name: state[name] for name in state if name != "rows"}):
        with pytest.raises(CorruptError, match="do not belong together"):
            Neighbors.of_state(broken, num_classes=3)
