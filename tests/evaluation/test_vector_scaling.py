import numpy as np
import pytest
from calibration_rows import draw_labels, drawn, known, mean_nll
from scipy.optimize import check_grad, minimize
from scipy.special import log_softmax

from widemax.evaluation.calibration import Temperature, VectorScaling
from widemax.evaluation.calibration.vector import Objective


def distorted(seed: int, num_rows: int, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits of which each class has its own wrong scale and offset, with labels of the right ones."""
    logits, labels = drawn(seed, num_rows, num_classes)
    generator = np.random.default_rng(99)
    weights = generator.uniform(0.5, 1.5, num_classes)
    biases = generator.normal(size=num_classes)
    return (logits - biases) / weights, labels


@pytest.mark.parametrize("k", [9, 3])
def test_gradient_is_that_of_the_value(k: int) -> None:
    logits, labels = distorted(0, 40, 9)
    objective = Objective(known(logits, k, labels), np.array([1, 4, 5, 8]), l2=0.3)
    generator = np.random.default_rng(0)
    for _ in range(3):
        params = generator.normal(size=9) * 0.5
        params[0] = np.exp(params[0])
        error = check_grad(lambda p: objective(p)[0], lambda p: objective(p)[1], params)
        assert error < 1e-5
    # The penalty matters at the size that the check can see.
    assert (
        abs(Objective(objective.known, objective.class_ids_M, l2=0.0)(params)[1] - objective(params)[1]).max()
        > 1e-4
    )


def test_agrees_with_a_plain_fit_on_the_matrix() -> None:
    logits, labels = distorted(1, 300, 4)
    fewest = np.bincount(labels).argmin()
    fitted = np.delete(np.arange(4), fewest)

    def plain(params: np.ndarray) -> float:
        weights, biases = np.full(4, params[0]), np.zeros(4)
        weights[fitted] += params[1:4]
        biases[fitted] = params[4:]
        penalty = (params[1:] ** 2).sum() / 2 + 10 * (params[0] - 1 - np.log(params[0]))
        return mean_nll(weights * logits + biases, labels) * 300 + penalty

    expected = minimize(plain, [1, 0, 0, 0, 0, 0, 0], tol=1e-9).x
    found = VectorScaling.fit(known(logits, 4, labels), min_rows=int(np.bincount(labels).min()) + 1, l2=1.0)
    assert found.normalizer == "exact"
    assert found.class_ids_M.tolist() == fitted.tolist()
    assert found.shared_weight == pytest.approx(expected[0], abs=1e-3)
    np.testing.assert_allclose(found.weights_M, expected[0] + expected[1:4], atol=1e-3)
    np.testing.assert_allclose(found.biases_M, expected[4:], atol=1e-3)


@pytest.mark.parametrize("k", [30, 29, 10])
def test_mends_what_a_temperature_cannot(k: int) -> None:
    logits, labels = distorted(2, 6000, 30)
    fit_on, judged_on = slice(0, 4000), slice(4000, None)

    def nll(scaling: Temperature | VectorScaling) -> float:
        everything = scaling.apply(known(logits[judged_on], 30))
        at_label = everything.log_probs[known(logits[judged_on], 30).ids_BK == labels[judged_on][:, None]]
        return float(-at_label.mean())

    rows = known(logits[fit_on], k, labels[fit_on])
    vector, temperature = VectorScaling.fit(rows), Temperature.fit(rows)
    assert vector.normalizer == ("exact" if k == 30 else "estimated")
    assert nll(vector) < nll(temperature) - 0.1
    # Turned round, the biases are the wrong twin.
    twin = VectorScaling(
        vector.shared_weight, vector.class_ids_M, vector.weights_M, -vector.biases_M, "exact"
    )
    assert nll(twin) > nll(temperature)


def test_without_fitted_classes_it_is_a_temperature() -> None:
    logits, labels = drawn(3, 500, 40)
    rows = known(logits * 2, 8, labels)
    vector, temperature = VectorScaling.fit(rows, min_rows=501), Temperature.fit(rows)
    assert vector.class_ids_M.size == 0
    assert 1 / vector.shared_weight == pytest.approx(temperature.temperature, rel=1e-3)
    scaled = vector.apply(rows)
    expected = Temperature(1 / vector.shared_weight).apply(rows)
    np.testing.assert_allclose(scaled.log_probs, expected.log_probs)
    np.testing.assert_allclose(scaled.log_tail, expected.log_tail)


def test_rare_classes_share_and_labels_are_not_looked_at_when_applied() -> None:
    generator = np.random.default_rng(4)
    logits = generator.normal(size=(400, 20)) - np.arange(20) / 3
    labels = draw_labels(logits, generator)
    found = VectorScaling.fit(known(logits, 6, labels), min_rows=25)
    counts = np.bincount(labels, minlength=20)
    np.testing.assert_array_equal(found.class_ids_M, np.flatnonzero(counts >= 25))
    assert 0 < found.class_ids_M.size < 20
    with_labels, without = (found.apply(known(logits, 6, which)) for which in (labels, None))
    np.testing.assert_array_equal(with_labels.log_probs, without.log_probs)
    np.testing.assert_allclose(np.exp(without.log_probs).sum(1) + np.exp(without.log_tail), 1)


def test_biases_of_tail_classes_count_in_the_tail() -> None:
    # With equal logits and a shared weight the spread of the tail is right, and so is everything else.
    logits = np.zeros((2, 5))
    scaling = VectorScaling(2.0, np.array([0, 4]), np.array([2.0, 2.0]), np.array([-1.0, 1.5]), "exact")
    scaled = scaling.apply(known(logits, 2))
    truth = log_softmax(np.array([-1.0, 0, 0, 0, 1.5]))
    np.testing.assert_allclose(scaled.log_probs, np.tile(truth[:2], (2, 1)))
    # Without class 4's bias the tail would hold three plain classes.
    np.testing.assert_allclose(np.exp(scaled.log_tail), np.exp(truth[2:]).sum())
