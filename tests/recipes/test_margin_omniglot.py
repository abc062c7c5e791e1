"""Unseen alphabets are unseen, queries come from other writers, and nearest drawings are found by cosine."""

import numpy as np
import pytest
import torch

from widemax.recipes.images import descend
from widemax.recipes.margin_omniglot import (
    LOSSES,
    NUM_WRITERS,
    WAYS,
    Characters,
    Net,
    OneShot,
    all_pairs,
    one_of_all,
    read_characters,
    split,
)


def some_characters(*sizes, seed=0):
    """Alphabets of noise with a dark bar; five characters differ in its row by more than images are moved."""
    generator = torch.Generator().manual_seed(seed)
    names_C = np.array([f"A{place}/{one:02}" for place, size in enumerate(sizes) for one in range(size)])
    pixels_CKHW = torch.randint(200, 256, (len(names_C), NUM_WRITERS, 28, 28), generator=generator)
    for place in range(len(names_C)):
        pixels_CKHW[place, :, 5 * place % 25 : 5 * place % 25 + 3] = 0
    return Characters(names_C, pixels_CKHW.to(torch.uint8))


def unit(values):
    return torch.nn.functional.normalize(values, dim=-1)


def shared(one, other):
    """Alphabets that are in both."""
    return set(one.alphabets) & set(other.alphabets)


def test_the_characters_of_all_alphabets(widemax_data, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("WIDEMAX_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    characters = read_characters()
    assert len(characters) == len(set(characters.names_C)) == 964
    assert characters.pixels_CKHW.shape == (964, 20, 28, 28)
    # Paper is white and mostly bare.
    assert characters.pixels_CKHW.float().mean() > 200
    trained, unseen = split(characters, held_out=10)
    assert [len(np.unique(part.alphabets)) for part in (trained, unseen)] == [20, 10]
    assert len(trained) + len(unseen) == 964
    assert not shared(trained, unseen)
    # Held out character by character, alphabets would be on both sides.
    assert shared(
        Characters(characters.names_C[::2], characters.pixels_CKHW[::2]),
        Characters(characters.names_C[1::2], characters.pixels_CKHW[1::2]),
    )


def test_drawings_of_some_writers_carry_the_place_of_their_character():
    characters = some_characters(2, 3)
    drawings = characters.drawings(slice(15, None))
    assert drawings.labels_N.tolist() == [place for place in range(5) for _ in range(5)]
    for row, label in enumerate(drawings.labels_N):
        torch.testing.assert_close(drawings.pixels_NHW[row], characters.pixels_CKHW[label, 15 + row % 5])
    assert characters.of(["A1"]).names_C.tolist() == ["A1/00", "A1/01", "A1/02"]


def test_trials_stay_in_an_alphabet_and_ask_another_writer():
    characters = some_characters(25, WAYS, 7)
    trials = OneShot.drawn(characters, num_trials=30, seed=0)
    assert trials.characters_TQ.shape == (60, WAYS)
    assert set(trials.alphabets_T) == {"A0", "A1"}
    assert (trials.known_T != trials.asked_T).all()
    for alphabet, places_Q in zip(trials.alphabets_T, trials.characters_TQ, strict=True):
        assert len(set(places_Q.tolist())) == WAYS
        assert set(characters.alphabets[places_Q]) == {alphabet}
    again, other = (OneShot.drawn(characters, num_trials=30, seed=seed) for seed in (0, 1))
    assert torch.equal(trials.characters_TQ, again.characters_TQ)
    assert not torch.equal(trials.characters_TQ, other.characters_TQ)


def test_one_shot_is_perfect_on_separate_vectors_and_chance_on_random_ones():
    generator = torch.Generator().manual_seed(0)
    characters = some_characters(30, 30)
    trials = OneShot.drawn(characters, num_trials=100, seed=0)
    itself_Q = torch.arange(WAYS)
    separate_CKD = torch.eye(60)[:, None].expand(60, NUM_WRITERS, 60)
    assert (trials.found(separate_CKD) == itself_Q).all()
    assert one_of_all(separate_CKD) == 1
    random_CKD = unit(torch.randn(60, NUM_WRITERS, 8, generator=generator))
    chance = float((trials.found(random_CKD) == itself_Q).float().mean())
    assert chance == pytest.approx(1 / WAYS, abs=0.015)
    assert one_of_all(random_CKD) == pytest.approx(1 / 60, abs=0.01)
    # Asking the writer whose drawings are known finds each drawing itself, whatever the vectors.
    leaky = OneShot(trials.alphabets_T, trials.characters_TQ, trials.known_T, trials.known_T)
    assert (leaky.found(random_CKD) == itself_Q).all()


def test_one_shot_and_pairs_by_loops():
    generator = torch.Generator().manual_seed(0)
    directions_CKD = unit(
        torch.randn(22, 1, 5, generator=generator) + 0.5 * torch.randn(22, 20, 5, generator=generator)
    )
    trials = OneShot.drawn(some_characters(22), num_trials=4, seed=0)
    for trial, found_Q in enumerate(trials.found(directions_CKD)):
        for query, found in enumerate(found_Q):
            places_Q = trials.characters_TQ[trial]
            asked_D = directions_CKD[places_Q[query], trials.asked_T[trial]]
            cosines = [float(asked_D @ directions_CKD[place, trials.known_T[trial]]) for place in places_Q]
            assert cosines[int(found)] == pytest.approx(max(cosines))
    right = [
        int((directions_CKD[:, writer] @ directions_CKD[place, other]).argmax()) == place
        for writer in range(5)
        for place in range(22)
        for other in range(20)
        if other != writer
    ]
    assert one_of_all(directions_CKD) == pytest.approx(np.mean(right))
    assert 0.3 < np.mean(right) < 0.95
    alike = all_pairs(directions_CKD[:3, :4])
    same = [
        float(directions_CKD[place, one] @ directions_CKD[place, other])
        for place in range(3)
        for one in range(4)
        for other in range(one)
    ]
    np.testing.assert_allclose(np.sort(alike.same_P), np.sort(same), rtol=1e-5)
    assert len(alike.different_Q) == 3 * 16


def test_all_nets_start_alike_and_differ_in_their_loss():
    characters = some_characters(12)
    batch = characters.drawings(slice(3))
    nets = {name: Net(characters, seed=3, **options).eval() for name, options in LOSSES.items()}
    first = nets["softmax"]
    for net in nets.values():
        for one, other in zip(first.encoder.parameters(), net.encoder.parameters(), strict=True):
            assert torch.equal(one, other)
        assert torch.equal(first.head.weight, net.head.weight)
    assert not torch.equal(first.head.weight, Net(characters, seed=4).head.weight)
    losses = {name: net(batch).item() for name, net in nets.items()}
    assert len(set(losses.values())) == len(LOSSES)
    # A margin makes the task harder, and so does a center loss.
    assert losses["cosine softmax"] < min(losses["CosFace"], losses["ArcFace"])
    assert losses["softmax"] < losses["center loss"]
    lengths_CK = nets["ArcFace"].directions(characters).norm(dim=2)
    torch.testing.assert_close(lengths_CK, torch.ones(12, NUM_WRITERS))


def learned(characters, *, epochs, seed):
    net = Net(characters, seed=seed, **LOSSES["CosFace"])
    descend(net, characters.drawings(slice(15)), net, epochs=epochs, rate=3e-3, seed=seed)
    return net


def test_a_net_learns_to_tell_new_drawings():
    characters = some_characters(5)
    new = characters.drawings(slice(15, None))
    before = Net(characters, seed=0, **LOSSES["CosFace"]).eval().accuracy(new)
    assert before < 0.8 < learned(characters, epochs=12, seed=0).accuracy(new)


def test_the_same_seed_gives_the_same_net():
    characters = some_characters(5)
    one, again, other = (
        learned(characters, epochs=1, seed=seed).directions(characters) for seed in (0, 0, 1)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
