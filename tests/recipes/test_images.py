"""Images are standardized, and learned in the order of the seed."""

import torch

from widemax.recipes.images import ImageClassifier, Images, descend


def test_the_encoder_standardizes_by_the_images():
    images = Images(torch.arange(5 * 64).reshape(5, 8, 8).clamp(max=255).to(torch.uint8), torch.arange(5))
    encoder = ImageClassifier(images, 5, seed=0, dim=3, channels=(2,), hidden=()).encoder
    values = images.pixels_NHW.double()
    torch.testing.assert_close(encoder.mean_C, values.mean()[None])
    torch.testing.assert_close(encoder.scale_C, values.std(correction=0)[None])
    assert encoder(images.features).shape == (5, 3)


def test_every_epoch_takes_each_image_once_at_a_falling_rate():
    images = Images(torch.zeros(300, 2, 2, dtype=torch.uint8), torch.arange(300))
    net = torch.nn.Linear(1, 1, bias=False)
    seen, places, ends = [], [], []

    def loss(batch):
        seen.append(batch.labels_N)
        places.append(net.weight.item())
        assert net.training
        return net.weight.sum()  # its gradient is always 1, so that AdamW moves by the rate

    means = descend(
        net, images, loss, epochs=2, rate=0.1, seed=0, after_epoch=lambda: ends.append(net.training)
    )
    assert ends == [False, False]
    assert len(means) == 2
    for epoch in (seen[:3], seen[3:]):
        assert sorted(torch.cat(epoch).tolist()) == list(range(300))
    assert not torch.equal(torch.cat(seen[:3]), torch.cat(seen[3:]))
    moves = -torch.tensor(places).diff()
    assert (moves[1:] < moves[:-1]).all()
