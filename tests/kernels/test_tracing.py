"""Functions that torch.compile leaves as they are."""

import torch

from widemax.kernels import not_traced


def test_a_compiled_function_calls_it_between_its_graphs():
    seen = []

    @not_traced
    def by_value(values):
        seen.append(float(values.sum()))
        return values * int(values.sum())

    @torch.compile(backend="eager")
    def outer(values):
        return by_value(values + 1) + 1

    assert outer(torch.ones(2)).tolist() == [9, 9]
    assert outer(torch.zeros(2)).tolist() == [3, 3]
    assert seen == [4, 2]
