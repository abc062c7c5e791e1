"""A saved translator: what it answers, and what it refuses."""

from itertools import islice

import pytest
import torch
from tests.translation.conftest import sentences, translated
from torch.nn.functional import pad

from widemax.config import Config
from widemax.errors import ConfigError, OptionError
from widemax.sequences import Subwords
from widemax.sequences.subwords import END, PADDING, START
from widemax.translation import EncoderDecoder, Translator

LEARNED = set(sentences(400))
UNSEEN = [line for line in sentences(60, seed=9) if line not in LEARNED]


def texts(translator: Translator, lines: list[str], **options: float) -> list[str]:
    return [found.text for found in translator.translate(lines, **options)]


def test_it_has_learned_the_language(translator: Translator) -> None:
    assert len(UNSEEN) > 20
    right = [a == translated(b) for a, b in zip(texts(translator, UNSEEN), UNSEEN, strict=True)]
    assert sum(right) > 0.5 * len(right)


def test_lines_are_answered_each_for_itself(translator: Translator) -> None:
    """In any company and order, and as they come; a line of nothing is nothing."""
    lines = [*UNSEEN[:3], "", UNSEEN[3]]
    found = list(translator.translate(lines))
    alone = [next(translator.translate([line])) for line in lines]
    assert [x.text for x in found] == [x.text for x in alone]
    assert [x.score for x in found] == pytest.approx([x.score for x in alone], rel=1e-4)
    assert found[3].text == ""
    endless = translator.translate(line for _ in iter(int, 1) for line in lines)
    assert [x.text for x in islice(endless, 2)] == [x.text for x in found[:2]]


def test_a_beam_of_one_takes_the_best_piece_each_time(translator: Translator) -> None:
    ids = torch.tensor([[*translator.subwords.encode(["red dog ."])[0], END]])
    memory, where = translator.encoder.eval().encode(ids, translator.table)
    path = [START]
    while path[-1] != END:
        hidden = translator.encoder.decode(torch.tensor([path]), translator.table, memory, where)
        path.append(int(translator.head.logits(hidden[:, -1]).argmax()))
    assert texts(translator, ["red dog ."], beam=1) == translator.subwords.decode([path[1:-1]])


def test_a_score_is_the_log_probability(translator: Translator) -> None:
    (found,) = translator.translate(["two cat ."], length_penalty=0.0)
    source, target = ([*ids] for ids in translator.subwords.encode(["two cat .", found.text]))
    hidden = translator.encoder.eval()(
        torch.tensor([[*source, END]]), torch.tensor([[START, *target]]), translator.table
    )
    labels = torch.tensor([*target, END])
    log_probs = translator.head.answer(hidden, labels, k=1).label_log_probs
    assert found.score == pytest.approx(float(log_probs.sum()), rel=1e-4)


def test_padding_changes_nothing(translator: Translator) -> None:
    model = translator.encoder.eval()
    source, target = torch.tensor([[7, 9, END]]), torch.tensor([[START, 8]])
    padded = pad(source, (0, 4), value=PADDING), pad(target, (0, 2), value=PADDING)
    torch.testing.assert_close(
        model(*padded, translator.table), model(source, target, translator.table), atol=1e-5, rtol=1e-5
    )


def test_source_and_target_share_the_table_of_the_head(translator: Translator) -> None:
    assert not any(len(p) == len(translator.subwords) for p in translator.encoder.parameters())
    assert translator.table is translator.head.weight


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"encoder": {"kind": "text"}}, "encoder.kind must be 'transformer'"),
        ({"encoder": {"heads": 4}}, "did you mean 'num_heads'"),
        ({"head": {"kind": "counts"}}, "head.kind must be 'exact' or 'sampled'"),
        ({"head": {"kind": "exact", "loss": "binary_cross_entropy"}}, "softmax"),
    ],
)
def test_wrong_options_are_told(translator: Translator, sections: dict[str, object], said: str) -> None:
    with pytest.raises((ConfigError, OptionError), match=said):
        Translator.build(Config(**sections), translator.subwords, translator.counts)


def test_a_sampled_head_trains_with_dense_gradients(translator: Translator) -> None:
    config = Config(
        encoder={"dim": 8, "num_layers": 1, "num_heads": 2}, head={"kind": "sampled", "num_sampled": 8}
    )
    other = Translator.build(config, Subwords(translator.subwords.model), translator.counts)
    hidden = other.encoder(torch.tensor([[5, END]]), torch.tensor([[START, 6]]), other.table)
    other.head(hidden, torch.tensor([6, END])).backward()
    assert other.table.grad is not None
    assert not other.table.grad.is_sparse


def test_the_network_has_the_weights_of_the_formula() -> None:
    dim, hidden = 8, 16
    model = EncoderDecoder(dim=dim, num_layers=2, num_heads=2, hidden_dim=hidden)
    attention, net = 4 * dim * dim + 4 * dim, 2 * dim * hidden + dim + hidden
    layers = 2 * (attention + net + 2 * 2 * dim) + 2 * (2 * attention + net + 3 * 2 * dim)
    assert sum(p.numel() for p in model.parameters()) == layers + 2 * 2 * dim
