"""Digits are read as they stand, standardized, and learned in the order of the seed."""

import torch

from widemax.recipes.digits import Digits, descend, image_encoder, read_digits


def test_the_first_digits_of_both_splits(widemax_data, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("WIDEMAX_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    train, test = read_digits("train", 10), read_digits("test", 5)
    assert train.labels_N.tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert test.labels_N.tolist() == [7, 2, 1, 0, 4]
    assert train.pixels_NHW.shape == (10, 28, 28)
    # The bar of the 4 crosses its middle row, ink is bright.
    assert train.pixels_NHW[2].amax() == 255
    assert train.pixels_NHW[:, 0].amax() == 0
    assert len(train.take(torch.tensor([0, 2]))) == 2
    assert train.unit.max() == 1


def test_the_encoder_standardizes_by_the_images():
    digits = Digits(torch.arange(5 * 64).reshape(5, 8, 8).clamp(max=255).to(torch.uint8), torch.arange(5))
    encoder = image_encoder(digits, seed=0, dim=3, channels=(2,), hidden=())
    values = digits.pixels_NHW.double()
    torch.testing.assert_close(encoder.mean_C, values.mean()[None])
    torch.testing.assert_close(encoder.scale_C, values.std(correction=0)[None])
    assert encoder(digits.features).shape == (5, 3)


def test_every_epoch_takes_each_image_once_at_a_falling_rate():
    digits = Digits(torch.zeros(300, 2, 2, dtype=torch.uint8), torch.arange(300))
    net = torch.nn.Linear(1, 1, bias=False)
    seen, places, ends = [], [], []

    def loss(batch):
        seen.append(batch.labels_N)
        places.append(net.weight.item())
        assert net.training
        return net.weight.sum()  # its gradient is always 1, so that AdamW moves by the rate

    means = descend(
        net, digits, loss, epochs=2, rate=0.1, seed=0, after_epoch=lambda: ends.append(net.training)
    )
    assert ends == [False, False]
    assert len(means) == 2
    for epoch in (seen[:3], seen[3:]):
        assert sorted(torch.cat(epoch).tolist()) == list(range(300))
    assert not torch.equal(torch.cat(seen[:3]), torch.cat(seen[3:]))
    moves = -torch.tensor(places).diff()
    assert (moves[1:] < moves[:-1]).all()
