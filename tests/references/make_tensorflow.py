"""Write tensorflow.json: what TensorFlow's candidate sampling gives for the same candidates and counts.

Run it where TensorFlow is installed: ``python make_tensorflow.py``. TensorFlow is no dependency of the tests.
"""

import json
from pathlib import Path

import numpy as np
import tensorflow as tf

B, C, D, S = 3, 11, 4, 6
# TensorFlow masks only one of several hits of the same class, so every candidate is another class here.
CANDIDATES = [9, 0, 3, 5, 1, 7]
LABELS = {1: [[0], [3], [10]], 2: [[0, 7], [3, 5], [10, 2]]}


def gradients(loss, hidden, weight, bias, labels, counts, num_true):
    """Losses of the rows, and the gradients of their sum."""
    sampled_values = (
        tf.constant(CANDIDATES, tf.int64),
        tf.constant([[counts[j] for j in row] for row in labels], tf.float64),
        tf.constant([counts[j] for j in CANDIDATES], tf.float64),
    )
    tensors = [tf.Variable(value) for value in (hidden, weight, bias)]
    with tf.GradientTape() as tape:
        loss_B = loss(
            weights=tensors[1],
            biases=tensors[2],
            labels=tf.constant(labels, tf.int64),
            inputs=tensors[0],
            num_sampled=S,
            num_classes=C,
            num_true=num_true,
            sampled_values=sampled_values,
            remove_accidental_hits=True,
        )
    slopes = [tf.convert_to_tensor(slope) for slope in tape.gradient(loss_B, tensors)]
    return {"loss_B": loss_B.numpy().tolist(), "gradients": [slope.numpy().tolist() for slope in slopes]}


def main():
    """Draw the inputs, ask TensorFlow, write the answers beside this file."""
    rng = np.random.default_rng(0)
    hidden, weight, bias = rng.normal(size=(B, D)), rng.normal(size=(C, D)), rng.normal(size=C)
    counts = rng.uniform(0.05, 2.0, size=C)
    ids, _, expected = tf.random.log_uniform_candidate_sampler(
        tf.constant([[0]], tf.int64), 1, 8, unique=False, range_max=1000, seed=1
    )
    record = {
        "tensorflow": tf.__version__,
        "hidden": hidden.tolist(),
        "weight": weight.tolist(),
        "bias": bias.tolist(),
        "expected_counts": counts.tolist(),
        "candidates": CANDIDATES,
        "log_uniform": {"num_sampled": 8, "num_classes": 1000, "ids": ids.numpy().tolist()},
        "cases": [],
    }
    record["log_uniform"]["expected_counts"] = expected.numpy().tolist()
    # With several labels nce_loss asks for a probability of 1/num_true, which is another loss.
    for name, loss, num_true in (
        ("softmax", tf.nn.sampled_softmax_loss, 1),
        ("softmax", tf.nn.sampled_softmax_loss, 2),
        ("sigmoid", tf.nn.nce_loss, 1),
    ):
        answer = gradients(loss, hidden, weight, bias, LABELS[num_true], counts, num_true)
        record["cases"].append({"loss": name, "labels": LABELS[num_true], **answer})
    Path(__file__).with_name("tensorflow.json").write_text(json.dumps(record) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
