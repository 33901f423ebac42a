"""Nearest tokens: the same as a full search, in bounded pieces, with ties and barred tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from soma.neighbours import nearest, neighbourhood
from soma.soft_prompt import verbalize
from tests.soma import brute, tiny

VOCABULARY, WIDTH = 53, 7


def random_rows(count: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, WIDTH, generator=generator, dtype=torch.float64).to(dtype)


TABLE = random_rows(VOCABULARY, seed=1)
QUERIES = random_rows(40, seed=2)
any_bound = pytest.mark.parametrize(
    "bound",
    [VOCABULARY, VOCABULARY + 1, 2 * VOCABULARY - 1, 3 * VOCABULARY, 39 * VOCABULARY, 1 << 24],
)


class Allocations(TorchDispatchMode):
    """Shapes of all tensors that operations put into new memory: no views, no inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[torch.Size] = []

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        old = {a.untyped_storage().data_ptr() for a in args if isinstance(a, Tensor)}
        for made in result if isinstance(result, tuple | list) else [result]:
            if isinstance(made, Tensor) and made.untyped_storage().data_ptr() not in old:
                self.shapes.append(made.shape)
        return result


@any_bound
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_nearest_is_the_full_argmax(bound: int, dtype: torch.dtype) -> None:
    table, queries = TABLE.to(dtype), QUERIES.to(dtype)
    similar = torch.cosine_similarity(queries.double()[:, None], table.double()[None], dim=-1)
    ids, cosines = nearest(queries, table, 1, bound=bound)
    assert ids.dtype == torch.long
    assert torch.equal(ids[:, 0], similar.argmax(dim=1))
    exact = 1e-12 if dtype == torch.float64 else 1e-6
    assert torch.allclose(cosines.double()[:, 0], similar.max(dim=1).values, rtol=0, atol=exact)


@any_bound
@pytest.mark.parametrize("k", [1, 5, VOCABULARY])
def test_the_k_nearest_are_those_of_brute_force(bound: int, k: int) -> None:
    ids, cosines = nearest(QUERIES, TABLE, k, bound=bound)
    for query, found, near in zip(QUERIES.numpy(), ids.tolist(), cosines.tolist(), strict=True):
        assert found == brute.nearest(query, TABLE.numpy(), k)
        expected = [brute.cosine(query, TABLE[v].numpy()) for v in found]
        assert near == pytest.approx(expected, abs=1e-12)


@any_bound
def test_no_matrix_of_similarities_exceeds_the_bound(bound: int) -> None:
    with Allocations() as made:
        nearest(QUERIES, TABLE, 5, bound=bound)
    similarities = [shape for shape in made.shapes if shape[-1:] == (VOCABULARY,)]
    assert 0 < max(shape.numel() for shape in similarities) <= bound
    inputs = max(TABLE.numel(), QUERIES.numel())
    assert max(shape.numel() for shape in made.shapes) <= max(bound, inputs)


@pytest.mark.parametrize("bound", [VOCABULARY, 4 * VOCABULARY])
def test_the_neighbourhood_keeps_the_bound_too(bound: int) -> None:
    reply = torch.arange(VOCABULARY).repeat(3)
    with Allocations() as made:
        bounded = neighbourhood(reply, TABLE, 4, 0.7, bound=bound)
    largest = max(shape.numel() for shape in made.shapes)
    assert largest <= max(bound, TABLE.numel(), bounded.ids.numel())
    assert largest < VOCABULARY**2, "one matrix of all distinct tokens was built"
    whole = neighbourhood(reply, TABLE, 4, 0.7)
    assert torch.equal(bounded.ids, whole.ids)
    assert torch.allclose(bounded.weights, whole.weights, rtol=0, atol=1e-12)


def test_a_bound_below_one_row_is_refused_with_both_numbers() -> None:
    with pytest.raises(ValueError, match=rf"bound is {VOCABULARY - 1}.*{VOCABULARY} numbers"):
        nearest(QUERIES, TABLE, 1, bound=VOCABULARY - 1)
    with pytest.raises(ValueError, match=rf"bound is 10.*{VOCABULARY} numbers"):
        neighbourhood(torch.tensor([3]), TABLE, 2, 0.7, bound=10)


@pytest.mark.parametrize("k", [0, -1, VOCABULARY + 1])
def test_a_k_beyond_the_table_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match=rf"k is {k}.*1 and {VOCABULARY}"):
        nearest(QUERIES, TABLE, k)


def test_a_k_beyond_what_is_not_excluded_is_refused() -> None:
    excluded = torch.arange(VOCABULARY - 2)
    assert nearest(QUERIES, TABLE, 2, excluded=excluded)[0].shape == (40, 2)
    with pytest.raises(ValueError, match=r"k is 3.*1 and 2"):
        nearest(QUERIES, TABLE, 3, excluded=excluded)


@any_bound
def test_excluded_tokens_are_never_returned(bound: int) -> None:
    best = sorted(set(nearest(QUERIES, TABLE, 1)[0][:, 0].tolist()))
    ids, _ = nearest(QUERIES, TABLE, 6, bound=bound, excluded=torch.tensor(best))
    for query, found in zip(QUERIES.numpy(), ids.tolist(), strict=True):
        assert found == brute.nearest(query, TABLE.numpy(), 6, without=best)


def test_no_queries_have_no_neighbours() -> None:
    ids, cosines = nearest(QUERIES[:0], TABLE, 3)
    assert ids.shape == cosines.shape == (0, 3)
    assert ids.dtype == torch.long


@any_bound
def test_of_tied_tokens_each_is_listed_once(bound: int) -> None:
    table = TABLE.clone()
    table[10:16] = table[9]
    query = table[9:10]
    ids, cosines = nearest(query, table, 8, bound=bound)
    assert set(ids[0, :7].tolist()) == set(range(9, 16))
    assert cosines[0, :7].tolist() == pytest.approx([1.0] * 7, abs=1e-12)
    assert ids[0, 7].item() == brute.nearest(query[0].numpy(), table.numpy(), 8)[7]


def test_neighbourhood_by_hand() -> None:
    """cos to e_0: e_1 0, e_2 0.6, e_3 -1, e_4 0.8. So N_2(0) = {4, 2}.

    With tau 0.5 the scores are e^2 = 7.389056, e^1.6 = 4.953032, e^1.2 = 3.320117, which sum to
    15.662205.
    """
    table = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0], [-1.0, 0.0], [4.0, 3.0]]).double()
    hood = neighbourhood(torch.tensor([0]), table, 2, 0.5)
    assert hood.ids.tolist() == [[0, 4, 2]]
    assert hood.weights.tolist()[0] == pytest.approx([0.471776, 0.316241, 0.211983], abs=1e-6)


def test_a_low_temperature_leaves_only_the_token_and_a_high_one_treats_all_alike() -> None:
    reply = torch.tensor([5])
    assert neighbourhood(reply, TABLE, 8, 1e-3).weights[0, 0].item() == pytest.approx(1, abs=1e-6)
    even = neighbourhood(reply, TABLE, 8, 1e9).weights[0].tolist()
    assert even == pytest.approx([1 / 9] * 9, abs=1e-6)


@pytest.mark.parametrize("k", [1, 6, VOCABULARY - 1])
@pytest.mark.parametrize("tau", [0.1, 0.7])
def test_neighbourhoods_are_those_of_brute_force(k: int, tau: float) -> None:
    reply = torch.tensor([3, 50, 3, 0, 52, 50])
    hood = neighbourhood(reply, TABLE, k, tau)
    assert hood.ids.shape == hood.weights.shape == (6, k + 1)
    for y, ids, weights in zip(reply.tolist(), hood.ids.tolist(), hood.weights, strict=True):
        expected = brute.substitutes(y, TABLE.numpy(), k, tau)
        assert ids == list(expected)
        assert weights.tolist() == pytest.approx(list(expected.values()), abs=1e-12)


@pytest.mark.parametrize("k", [1, 3, 9])
def test_a_token_among_many_twins_is_still_first_and_not_its_own_neighbour(k: int) -> None:
    """All rows point the same way: a search for k + 1 rows need not list the token itself."""
    table = TABLE[:1].expand(10, -1).contiguous()
    reply = torch.arange(10)
    hood = neighbourhood(reply, table, k, 0.7)
    assert torch.equal(hood.ids[:, 0], reply)
    for y, ids in zip(reply.tolist(), hood.ids.tolist(), strict=True):
        assert len(set(ids)) == k + 1 and y not in ids[1:]
    even = torch.full_like(hood.weights, 1 / (k + 1))
    assert torch.allclose(hood.weights, even, rtol=0, atol=1e-12)


def test_a_token_has_neighbours_but_no_more_than_the_others() -> None:
    with pytest.raises(ValueError, match=rf"k .*{VOCABULARY}"):
        neighbourhood(torch.tensor([1]), TABLE, VOCABULARY, 0.7)


def test_verbalized_tokens_are_neither_special_nor_beyond_the_vocabulary() -> None:
    """The prompt points at token 0, a special one, at 5, at a row without a token, and at 20."""
    tokenizer = tiny.tokenizer()
    usable = len(tokenizer)
    table = random_rows(usable + 3, seed=3)
    assert tokenizer.all_special_ids == [0, 1]
    prompt = table[[0, 5, usable + 2, 20]] * 0.01
    ids, text = verbalize(prompt, table, tokenizer)
    barred = [0, 1, *range(usable, usable + 3)]
    expected = [brute.nearest(row, table.numpy(), 1, without=barred)[0] for row in prompt.numpy()]
    assert ids == expected
    assert ids[1] == 5 and ids[3] == 20
    assert text == tokenizer.decode(ids)
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == ids
