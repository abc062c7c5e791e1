"""The map of classes is the exact principal plane of what their logits do."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from widemax import Model
from widemax.data import Dataset


def logits(folder: Path) -> Any:
    """[B, C] of all training rows."""
    model = Model.load(folder / "first")
    parts = [
        model.hidden(batch.columns).double() @ model.head.weight.detach().double().T
        for batch in Dataset([folder / "drinks.csv"], model.schema).batches(1000)
    ]
    return np.concatenate([part.numpy() for part in parts])


def test_products_of_vectors_are_covariances_of_logits(studio: Any, folder: Path) -> None:
    covariance_CC = np.cov(logits(folder), rowvar=False)
    for class_id in range(3):
        one = studio.get(f"runs/first/classes/{class_id}")
        for near in one["neighbors"]:
            other = near["class_id"]
            norm = np.sqrt(covariance_CC[class_id, class_id] * covariance_CC[other, other])
            assert near["cosine"] == pytest.approx(covariance_CC[class_id, other] / norm, abs=1e-4)


def test_the_map_keeps_distances_as_far_as_it_says(studio: Any, folder: Path) -> None:
    facts = studio.get("runs/first/classes")
    assert (facts["num_classes"], facts["shown"], facts["sampled_rows"]) == (3, 3, 240)
    body = studio.client.get("runs/first/classes/map").content
    x, y = np.frombuffer(body, "<f4", 6).reshape(2, 3)
    ids, counts = np.frombuffer(body, "<u4", 6, offset=24).reshape(2, 3)
    assert ids.tolist() == [0, 1, 2]
    assert counts.sum() == 240
    # Three points lie in a plane: the map holds all of their variance.
    assert sum(facts["shares"]) == pytest.approx(1, abs=1e-5)
    covariance_CC = np.cov(logits(folder), rowvar=False)
    for a, b in ((0, 1), (0, 2), (1, 2)):
        expected = covariance_CC[a, a] + covariance_CC[b, b] - 2 * covariance_CC[a, b]
        assert (x[a] - x[b]) ** 2 + (y[a] - y[b]) ** 2 == pytest.approx(expected, rel=1e-3)


def test_labels_are_found_by_a_part(studio: Any) -> None:
    found = studio.get("runs/first/labels", query="EA")
    assert [hit["label"] for hit in found["labels"]] == ["tea"]
    assert studio.get("runs/first/labels")["total"] == 3


def test_a_class_that_is_none_is_refused(studio: Any) -> None:
    assert "class ids are 0 to 2; got 9" in studio.refused("runs/first/classes/9")
