"""What the tables share: finding results in a summary, turning estimates into cells, captions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from harness.report.read import ALL
from harness.report.table import Column, Interval, Value

TITLES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "similarity": ("Similarity", ".3f"),
        "exact_match": ("Exact match", ".3f"),
        "rouge_l": ("ROUGE-L", ".3f"),
        "repetition": ("Repetition", ".3f"),
    }
)
"""Title and number format of the known scorers; another one is shown under its own name."""

TASK = Column("task", "Task")
METHOD = Column("method", "Method")
SERVED = Column("sessions", "Sessions", "served", "d")
ERRORS = Column("errors", "Errors", "sessions", "d")
SKIPPED = Column("skipped", "Skipped", "sessions", "d")
OUTCOMES = (SERVED, ERRORS, SKIPPED)

INTERVAL_NOTE = (
    "Brackets: 95 % interval of a session-cluster bootstrap; none where there is one session only "
    "or all agree."
)
PAIRED_NOTE = (
    "Differences are paired by task, session, seed and turn, over the sessions that both methods "
    "served; the bootstrap draws whole sessions."
)


@dataclass(frozen=True)
class Result:
    """One (task, method) of a summary."""

    data: dict[str, Any]

    @property
    def head(self) -> dict[str, Value]:
        """Task, method (the reference is marked) and session outcomes."""
        sessions = self.data["sessions"]
        mark = " (reference)" if self.data["is_reference"] else ""
        return {
            "task": self.data["task"],
            "method": self.data["method"] + mark,
            "sessions": sessions["scored"],
            "errors": sessions["error"],
            "skipped": sessions["skipped"] + sessions["unscored"],
        }

    def metric(self, name: str) -> dict[str, Any] | None:
        """The entry of a metric, or None where the task has no such scorer."""
        found: dict[str, Any] | None = self.data["metrics"].get(name)
        return found

    def mean(self, name: str, scale: float = 1) -> Value:
        return self.statistic(name, "mean", scale)

    def statistic(self, name: str, which: str, scale: float = 1) -> Value:
        """`mean`, `n`, `max`, `p50`, ... of a metric times `scale`; None where unknown."""
        metric = self.metric(name)
        value = None if metric is None else metric[which]
        return None if value is None else value * scale

    def interval(self, name: str, scale: float = 1) -> Value:
        return interval(self.metric(name), scale)

    def difference(self, name: str, scale: float = 1) -> Value:
        return interval((self.data["difference"] or {}).get(name), scale)

    def relative_percent(self, name: str) -> Value:
        return self._relative(self.data["difference"], name)

    def relative_to_cached(self, name: str) -> Value:
        """The same against the reference with the prefix cache on."""
        return self._relative(self.data["against_cached"], name)

    @staticmethod
    def _relative(differences: Any, name: str) -> Value:
        difference = (differences or {}).get(name)
        return interval(difference and difference["relative"], 100)


def results(summary: Mapping[str, Any], *, overall: bool = True) -> Iterator[Result]:
    """The results by task in the order of the spec, those over all tasks last.

    The overall rows are left out where there is one task, whose rows they would repeat.
    """
    for data in summary["results"]:
        if data["task"] != ALL or (overall and len(summary["tasks"]) > 1):
            yield Result(data)


def overall_results(summary: Mapping[str, Any]) -> list[Result]:
    return [Result(data) for data in summary["results"] if data["task"] == ALL]


def scorer_column(name: str) -> Column:
    title, spec = TITLES.get(name, (name, ".3f"))
    return Column(name, title, "", spec)


def setting(summary: Mapping[str, Any]) -> str:
    """The sentence of every caption that says what the numbers were measured on."""
    asked = sum(summary["sessions_asked"].values())
    seeds = ", ".join(str(seed) for seed in summary["seeds"])
    reference = summary["reference"] or "none"
    tasks = len(summary["tasks"])
    cache = {"mixed": "prefix cache by method"}.get(
        summary["prefix_cache"], f"prefix cache {summary['prefix_cache']}"
    )
    return (
        f"Pair {summary['pair']}, {summary['history']} history, {cache}, {offered(summary)}, "
        f"seeds {seeds}, n = {asked} sessions of {tasks} "
        f"{'task' if tasks == 1 else 'tasks'} per method and seed, machine "
        f"{summary['machine'] or 'unknown'}, reference {reference}."
    )


def offered(summary: Mapping[str, Any]) -> str:
    """The load that was offered: how sessions came, and how long their users thought."""
    rate, thought = summary["arrival_rate"], summary["think_time_s"]
    came = f"concurrency {summary['concurrency']}" if rate is None else f"{rate:g} arrivals/min"
    return f"{came}, {thought:g} s think time" if thought else came


def timing_notes(summary: Mapping[str, Any]) -> list[str]:
    """Notes of every table with times, memory or cost: what is not in them, and on how many
    workers they were measured.
    """
    notes = []
    why = summary["timing_refused"]
    if why:
        notes.append(
            f"No times, memory, load or cost by time: {why}. Quality and tokens do not depend on "
            "them."
        )
    elif summary["workers"] > 1:
        notes.append(f"Served by {summary['workers']} workers on machines of one class.")
    counts = [result.data["retried"] for result in overall_results(summary)]
    tries, turns = (sum(count[name] for count in counts) for name in ("tries", "turns"))
    if tries:
        notes.append(
            f"Calls that failed and were tried again: {tries} tries, turns with any: {turns}. The "
            "times of these turns and of their sessions are unscored; their tokens, dollars and "
            "replies count."
        )
    return notes


def refusals(summary: Mapping[str, Any]) -> list[str]:
    """A note per method whose differences were refused, so that a dash is explained."""
    notes = []
    for result in overall_results(summary):
        reasons = {d["refused"] for d in (result.data["difference"] or {}).values() if d["refused"]}
        reasons.discard(summary["timing_refused"])  # which has a note of its own
        notes += [f"No difference for {result.data['method']}: {why}." for why in sorted(reasons)]
    missing = summary["sessions"]["missing"]
    if missing:
        notes.append(f"The run is not finished: {missing} sessions are missing.")
    return notes


def interval(estimate: Any, scale: float = 1) -> Value:
    """An estimate times `scale` as a cell; None where it has no mean."""
    if not estimate or estimate["mean"] is None:
        return None
    low, high = (None if estimate[b] is None else estimate[b] * scale for b in ("low", "high"))
    return Interval(estimate["mean"] * scale, low, high)
