"""Dividing a cluster among workers, and what is refused before anything is written."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from harness.engines.pairs import load_pair
from harness.errors import UserError
from harness.executors.ray_cluster import Share, cards_of, connected, shared_out

RUN = ("run", "smoke", "--out", "run", "--executor", "ray")


def cpus(*cores: int) -> list[dict[str, float]]:
    return [{"CPU": float(c), "memory": 1e9} for c in cores]


def gpus(*cards: int, cores: int = 16) -> list[dict[str, float]]:
    return [{"CPU": float(cores), **({"GPU": float(c)} if c else {})} for c in cards]


@pytest.mark.parametrize(
    ("nodes", "cards", "workers", "share"),
    [
        (cpus(2), 1, None, Share(1, 2, 0)),
        (cpus(1), 1, None, Share(1, 1, 0)),
        (cpus(2), 1, 2, Share(2, 1, 0)),
        (cpus(8), 1, None, Share(4, 2, 0)),
        (cpus(7), 1, 2, Share(2, 3, 0)),
        (cpus(0, 1, 1), 1, None, Share(1, 1, 0)),
        (cpus(4, 2), 1, 2, Share(2, 2, 0)),  # three cores each would leave one out
        (cpus(8, 8), 1, 1, Share(1, 8, 0)),
        (gpus(8), 1, None, Share(8, 2, 1)),
        (gpus(8), 1, 3, Share(3, 2, 1)),
        (gpus(8), 4, None, Share(2, 8, 4)),
        (gpus(0, 4, 2), 1, None, Share(6, 4, 1)),
        (gpus(4, 3), 2, None, Share(3, 8, 2)),
        (gpus(2, cores=0), 1, None, Share(2, 0, 1)),
    ],
)
def test_every_worker_gets_its_part_of_one_machine(
    nodes: list[dict[str, float]], cards: int, workers: int | None, share: Share
) -> None:
    assert shared_out(nodes, cards, workers) == share


@pytest.mark.parametrize(
    ("nodes", "cards", "workers", "said"),
    [
        (cpus(2), 1, 3, "room for 2 workers of one core, not for 3"),
        (cpus(0), 1, None, "room for 0 workers of one core, not for 1"),
        ([], 1, None, "room for 0 workers of one core, not for 1"),
        (gpus(4), 1, 5, "room for 4 workers of 1 card, not for 5"),
        (gpus(1, 1), 2, None, "room for 0 workers of 2 cards"),
    ],
)
def test_more_workers_than_there_is_room_for_are_refused(
    nodes: list[dict[str, float]], cards: int, workers: int | None, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        shared_out(nodes, cards, workers)


def test_a_model_spread_over_cards_needs_them_all() -> None:
    pair = load_pair("embedded")
    assert cards_of(pair) == 1
    options = {"tensor_parallel_size": 4}
    wide = pair.F.model_copy(update={"engine": "vllm", "options": options})
    assert cards_of(pair.model_copy(update={"F": wide})) == 4


def refused(result: Result, *said: str) -> None:
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert all(words in result.stderr for words in said)
    assert not Path("run").exists()


def test_without_ray_one_line_says_how_to_get_it(
    bench: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    refused(bench(*RUN), "pip install '.[ray]'")


def test_arrivals_need_one_clock(bench: Callable[..., Result]) -> None:
    refused(bench(*RUN, "--arrival-rate", "6"), "one machine's clock", "arrival_rate")


def test_a_ray_client_is_refused(
    bench: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://127.0.0.1:10001")
    refused(bench(*RUN), "RAY_ADDRESS", "Ray Client")


def test_workers_are_of_ray_alone(bench: Callable[..., Result]) -> None:
    refused(bench("run", "smoke", "--out", "run", "--workers", "2"), "--workers", "--executor ray")


@pytest.mark.parametrize("address", ["127.0.0.1:{free}", "127.0.0.1", "nowhere.invalid:6379"])
def test_an_address_where_no_cluster_is(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = address.format(free=free.getsockname()[1])
    monkeypatch.setenv("RAY_ADDRESS", where)
    with pytest.raises(UserError, match="RAY_ADDRESS: no Ray cluster to be used"), connected():
        pass
