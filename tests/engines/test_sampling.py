"""Drawing tokens, against distributions known in advance."""

from __future__ import annotations

import pytest

from harness.engines.base import Sampling

torch = pytest.importorskip("torch")

from harness.engines.transformers.sampling import draw  # noqa: E402

P = [0.5, 0.3, 0.15, 0.05]


def frequencies(sampling: Sampling, draws: int = 20_000):
    logits = torch.tensor([P]).log().expand(draws, -1)
    one = torch.Generator().manual_seed(0)
    tokens = draw(logits, [sampling] * draws, [one] * draws)
    return torch.bincount(torch.tensor(tokens), minlength=4).double() / draws


@pytest.mark.parametrize(
    ("temperature", "top_p", "expected"),
    [
        (1.0, 1.0, P),
        (0.5, 1.0, [0.25 / 0.365, 0.09 / 0.365, 0.0225 / 0.365, 0.0025 / 0.365]),
        (1.0, 0.79, [0.625, 0.375, 0, 0]),
        (1.0, 0.81, [0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0]),
        (1.0, 0.01, [1, 0, 0, 0]),
    ],
)
def test_frequencies(temperature: float, top_p: float, expected: list[float]):
    got = frequencies(Sampling(1, temperature=temperature, top_p=top_p))
    # Five standard errors of a share near one half over 20,000 draws.
    assert torch.allclose(got, torch.tensor(expected).double(), atol=0.018)
    assert all(share == 0 for share, p in zip(got.tolist(), expected, strict=True) if p == 0)


def test_greedy_takes_the_most_likely_and_no_randomness():
    generator = torch.Generator().manual_seed(1)
    before = generator.get_state()
    assert draw(torch.tensor([[0.0, 2.0, 1.0]]), [Sampling(1)], [generator]) == [1]
    assert torch.equal(before, generator.get_state())


def test_rows_do_not_share_randomness():
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(2))
    settings = [Sampling(1), Sampling(1, temperature=1.0), Sampling(1, temperature=2.0, top_p=0.9)]

    def generators():
        return [torch.Generator().manual_seed(s) for s in (7, 8, 9)]

    together = draw(logits, settings, generators())
    alone = [draw(logits[i : i + 1], [settings[i]], [g])[0] for i, g in enumerate(generators())]
    assert together == alone
