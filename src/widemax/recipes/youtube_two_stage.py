"""Two stages, candidates and their order, on made events whose expected watch times are known.

Shapes: U users, V videos, G topics, K candidates.
"""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from widemax import charts
from widemax.artifact import Model
from widemax.charts import Panel
from widemax.config import Config
from widemax.errors import DataError
from widemax.ranking import Ranker, objectives, rank
from widemax.recipes.base import Array, Recipe, Results, recipes
from widemax.recipes.known import Known
from widemax.recommender import Recommender
from widemax.training.loop import train

MINUTES = {"clip": 1.0, "song": 4.0, "film": 60.0}
TOPICS, CANDIDATES, PLACES = 8, 100, 10
CLICKS = 12
"""How many of all videos a user clicks in the later time, on average."""
COVINGTON = (
    "Covington, Adams and Sargin, Deep Neural Networks for YouTube Recommendations, RecSys 2016, §4.2: the "
    "odds of a logistic regression whose positives weigh their watch time estimate the expected watch time"
)
PLANTED = "the planted chance of a click times the planted minutes"
KNOWN = {
    "mean odds of candidates over their planted minutes: clips, songs, films": Known.near(
        1.0, 1.0, 1.0, within=0.15, digits=2, source=COVINGTON
    ),
    "rank correlation of odds and planted minutes": Known.at_least(0.9, digits=3, source=COVINGTON),
    "planted minutes of the first 10, ranked over as retrieved": Known.at_least(
        1.4, digits=2, source="a retriever does not know how long a video is"
    ),
    **{
        f"planted minutes of the first 10 over the best 10 candidates: {name}": Known.at_least(
            0.85, digits=3, source=PLANTED
        )
        for name in objectives
    },
    "clicks that the retriever was trained on are refused": Known.yes(
        source="who learns from what it has been told learns to trust it"
    ),
}


@recipes.register("youtube-two-stage")
class YoutubeTwoStage(Recipe):
    """A retriever of candidates, and a ranker of them by the watch time to expect."""

    title = "Two stages: candidates by taste, their order by expected watch time"
    description = (
        "Made users click videos of their favorite topics, and watch a clip, a song or a film for about its "
        "length: how many minutes each video is worth to each user is planted. A counting head learns from "
        "the earlier clicks which videos go together and gives 100 candidates. A ranker learns from later "
        "clicks of half the users and their watch times, and is judged on the other half by what is planted."
    )
    full_time = "15 s"
    known = KNOWN

    def run(self, results: Results, *, quick: bool, seed: int) -> None:
        world = World.made(num_users=400 if quick else 1500, num_videos=200 if quick else 400, seed=seed)
        half = len(world.chance_UV) // 2
        asked = list(range(half, 2 * half))
        with TemporaryDirectory() as folder:
            columns = {"user": "user", "item": "video", "time": "time"}
            config = Config(data=columns, output={"dir": Path(folder, "run")})
            model = train(config, data=world.earlier).model
        later = world.later(range(half), seed=seed + 1)
        rankers = {
            name: rank(
                model, later, watch_time="minutes", objective=name, candidates=CANDIDATES, items=world.videos
            )
            for name in objectives
        }
        _obtain_odds(results, world, model, rankers["weighted_logistic"], asked)
        _obtain_order(results, world, model, rankers, asked)
        try:
            rank(model, world.earlier)
        except DataError as error:
            refused = True
            results.find(f"Clicks of the earlier time: {error}")
        else:
            refused = False
        results.obtain("clicks that the retriever was trained on are refused", refused)
        metrics = rankers["weighted_logistic"].metrics
        results.find(
            f"Of what held-out users took later, {metrics['ceiling_recall']:.0%} is among their {CANDIDATES} "
            f"candidates, so that no order reaches an nDCG@20 above {metrics['ceiling_ndcg@20']:.3f}; the "
            f"retriever's has {metrics['retriever_ndcg@20']:.3f}, the ranker's {metrics['ndcg@20']:.3f}. "
            "What a user clicks by chance, no model knows: by the planted minutes the order is nearly right."
        )


@dataclass(frozen=True, eq=False)
class World:
    """What is planted, and the earlier clicks.

    Args:
        chance_UV: of a click in the later time; 0 where the user has had the video.
        minutes_V: the mean watch time of a click.
        kinds_V: positions in ``MINUTES``.
        earlier: a table of the clicks that the retriever learns from.
    """

    chance_UV: Array
    minutes_V: Array
    kinds_V: Array
    earlier: Any

    @classmethod
    def made(cls, *, num_users: int, num_videos: int, seed: int) -> "World":
        """Users with two favorite topics each, and videos of one, some more popular than others."""
        rng = np.random.default_rng(seed)
        topic_V = rng.integers(TOPICS, size=num_videos)
        popularity_V = rng.permutation(num_videos) + 20.0
        taste_UG = np.full((num_users, TOPICS), 0.02)
        for strength in (1.0, 0.4):
            taste_UG[np.arange(num_users), rng.integers(TOPICS, size=num_users)] += strength
        taste_UV = taste_UG[:, topic_V] / popularity_V
        taste_UV /= taste_UV.sum(1, keepdims=True)
        # The first ones by taste plus Gumbel noise are drawn one after the other without replacement.
        order_UV = np.argsort(-(np.log(taste_UV) + rng.gumbel(size=taste_UV.shape)), axis=1)
        num_U = rng.integers(8, 25, size=num_users)
        user_N = np.repeat(np.arange(num_users), num_U)
        place_N = np.arange(len(user_N)) - np.repeat(np.cumsum(num_U) - num_U, num_U)
        video_N = order_UV[user_N, place_N]
        earlier = pa.table({"user": user_N, "video": named(video_N), "time": rng.permutation(len(user_N))})
        chance_UV = np.minimum(0.9, CLICKS * taste_UV)
        chance_UV[user_N, video_N] = 0.0
        kinds_V = rng.integers(len(MINUTES), size=num_videos)
        minutes_V = np.array(list(MINUTES.values()))[kinds_V]
        return cls(chance_UV, minutes_V, kinds_V, earlier)

    @property
    def videos(self) -> Any:
        """A table of what is known of each video."""
        kinds = [list(MINUTES)[kind] for kind in self.kinds_V]
        return pa.table({"video": named(np.arange(len(kinds))), "kind": kinds})

    @property
    def planted_UV(self) -> Array:  # noqa: N802 - its shape
        """The minutes to expect of each user and video."""
        planted_UV: Array = self.chance_UV * self.minutes_V
        return planted_UV

    def later(self, users: range, *, seed: int) -> Any:
        """A table of clicks of some users in the later time, and how many minutes they watched."""
        rng = np.random.default_rng(seed)
        chance_UV = self.chance_UV[users]
        user_N, video_N = np.nonzero(rng.random(chance_UV.shape) < chance_UV)
        minutes_N = self.minutes_V[video_N] * rng.gamma(4.0, 1 / 4.0, size=len(video_N))
        times = len(self.earlier) + rng.permutation(len(user_N))
        return pa.table({"user": user_N, "video": named(video_N), "time": times, "minutes": minutes_N})


def named(video_N: Array) -> list[str]:
    """The ids of videos."""
    return [f"video {video}" for video in video_N]


def answers(model: Model, users: list[int], ranker: Ranker | None = None, *, k: int) -> tuple[Array, Array]:
    """[U, k] videos, best first, and their logits."""
    found = Recommender(model, k=k, ranker=ranker).users(users)
    return (
        np.array([[int(p.label.split()[1]) for p in answer] for answer in found]),
        np.array([[p.logit for p in answer] for answer in found]),
    )


def ranks(values_N: Array) -> Array:
    """The places of values in their order, from 0."""
    return np.argsort(np.argsort(values_N))


def _obtain_odds(results: Results, world: World, model: Model, ranker: Ranker, asked: list[int]) -> None:
    videos_UK, logits_UK = answers(model, asked, ranker, k=CANDIDATES)
    planted_UK = world.planted_UV[np.array(asked)[:, None], videos_UK]
    kinds_UK = world.kinds_V[videos_UK]
    of_kind = [kinds_UK == kind for kind in range(len(MINUTES))]
    ratios = [np.exp(logits_UK[where]).mean() / planted_UK[where].mean() for where in of_kind]
    results.obtain("mean odds of candidates over their planted minutes: clips, songs, films", *ratios)
    correlation = np.corrcoef(ranks(logits_UK.ravel()), ranks(planted_UK.ravel()))[0, 1]
    results.obtain("rank correlation of odds and planted minutes", float(correlation))
    panel = Panel(x="planted minutes", y="odds", log_x=True, log_y=True)
    curves = {}
    for kind, where in zip(MINUTES, of_kind, strict=True):
        order = np.argsort(logits_UK[where])
        parts = [np.array_split(values_UK[where][order], 12) for values_UK in (planted_UK, np.exp(logits_UK))]
        curves[kind] = ([part.mean() for part in parts[0]], [part.mean() for part in parts[1]])
    ends = [min(min(x) for x, _ in curves.values()), max(max(x) for x, _ in curves.values())]
    panel.lines(curves | {"equal": (ends, ends)}, markers=True)
    results.draw(
        charts.figure(panel),
        "odds",
        title="The odds are the minutes to expect",
        caption="Candidates of users whom the ranker has not seen, twelve groups of equal size by their "
        "odds for each kind of video: the mean of the odds and of the planted minutes.",
        alt="Three curves, of clips, songs and films, near the line of equal odds and minutes.",
    )


def _obtain_order(
    results: Results, world: World, model: Model, rankers: dict[str, Ranker], asked: list[int]
) -> None:
    rows_U1 = np.array(asked)[:, None]
    retrieved_UK, _ = answers(model, asked, k=CANDIDATES)
    planted_UK = world.planted_UV[rows_U1, retrieved_UK]
    best = float(np.sort(planted_UK, axis=1)[:, -PLACES:].sum(1).mean())
    reached = {"as retrieved": float(planted_UK[:, :PLACES].sum(1).mean())}
    for name, ranker in rankers.items():
        videos_UK, _ = answers(model, asked, ranker, k=PLACES)
        reached[name] = float(world.planted_UV[rows_U1, videos_UK].sum(1).mean())
        what = f"planted minutes of the first {PLACES} over the best {PLACES} candidates: {name}"
        results.obtain(what, reached[name] / best)
    results.obtain(
        f"planted minutes of the first {PLACES}, ranked over as retrieved",
        reached["weighted_logistic"] / reached["as retrieved"],
    )
    panel = Panel(y=f"minutes of the first {PLACES}", width=560)
    panel.bars([*reached, "best order"], {"planted minutes": [*reached.values(), best]}, digits=1)
    results.draw(
        charts.figure(panel),
        "order",
        title="What an order is worth",
        caption=f"The planted minutes of the first {PLACES} of {CANDIDATES} candidates, a mean over users "
        "whom no ranker has seen. The best order knows what is planted.",
        alt="Bars: the order of the retriever is worth the least; the three rankers come near the best.",
    )
