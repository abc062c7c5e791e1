"""What is made follows from what is planted."""

import numpy as np
import pytest

from widemax.recipes.youtube_two_stage import CLICKS, MINUTES, World, named


def test_clicks_and_minutes_are_those_planted():
    world = World.made(num_users=60, num_videos=40, seed=0)
    total = np.zeros(world.planted_UV.shape)
    for seed in range(60):
        later = world.later(range(60), seed=seed).to_pydict()
        videos = [int(video.split()[1]) for video in later["video"]]
        np.add.at(total, (later["user"], videos), later["minutes"])
        assert min(later["time"]) >= len(world.earlier)
    assert total.sum() / 60 == pytest.approx(world.planted_UV.sum(), rel=0.03)
    assert total[world.planted_UV == 0].sum() == 0
    by_video = total.sum(0) / 60
    np.testing.assert_allclose(by_video, world.planted_UV.sum(0), atol=0.3 * max(MINUTES.values()))
    assert world.chance_UV.sum(1).mean() < CLICKS


def test_nobody_has_a_video_twice():
    world = World.made(num_users=60, num_videos=40, seed=0)
    earlier = world.earlier.to_pydict()
    pairs = set(zip(earlier["user"], earlier["video"], strict=True))
    assert len(pairs) == len(world.earlier)
    for user, video in pairs:
        assert world.chance_UV[user, named(np.arange(40)).index(video)] == 0
    assert set(world.videos["kind"].to_pylist()) == set(MINUTES)
