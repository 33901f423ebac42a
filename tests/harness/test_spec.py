"""A run as a value: hashed stably, overridden from the command line, compared by field."""

from __future__ import annotations

from typing import Any

import pytest

from harness.catalog import summaries
from harness.errors import UserError
from harness.profile import Overrides, load_spec, parse_named, split_named
from harness.spec import MethodSpec, RunSpec, differences, spec_hash


def smoke(**changes: Any) -> RunSpec:
    return load_spec("smoke", Overrides(**changes))[0]


@pytest.mark.parametrize("profile", sorted(summaries("profiles")))
def test_every_profile_is_valid_and_says_what_it_is(profile: str) -> None:
    spec, _ = load_spec(profile, Overrides())
    assert spec.profile == profile
    assert spec.summary
    assert all(t.scorers for t in spec.tasks)


def test_hash_is_the_same_in_every_process_and_reads_back_from_its_json() -> None:
    import json

    spec = smoke()
    stored = json.loads(json.dumps(spec.canonical()))
    assert spec_hash(stored) == spec.hash() == smoke().hash()


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"limit": 2},
        {"max_new_tokens": 9},
        {"concurrency": 2},
        {"arrival_rate": 60.0},
        {"think_time": 1.0},
        {"settings": ("prefix_cache=on",)},
        {"settings": ("objectives.ttft_s=0.5",)},
        {"methods": ("original:prefix_cache=on",)},
        {"methods": ("original",)},
        {"tasks": ("maths",)},
        {"settings": ("generation.temperature=0.5",)},
        {"settings": ("pair=qwen3",)},
    ],
    ids=str,
)
def test_whatever_changes_the_question_changes_the_hash(change: dict[str, object]) -> None:
    assert smoke(**change).hash() != smoke().hash()


def test_prose_does_not_change_the_hash() -> None:
    assert smoke(settings=('summary="other words"',)).hash() == smoke().hash()


def test_arguments_are_stored_as_the_method_understood_them() -> None:
    texts = ("truncation:last_turns=3,serve=G", "truncation:serve=G,last_turns=3")
    ids = {smoke(methods=(t,)).methods[0].id for t in texts}
    assert ids == {"truncation:last_turns=3,serve=G"}
    spec = smoke(methods=("summarization:every=3",))
    assert spec.methods[0].id == "summarization"  # three is the default


def test_a_reference_that_is_not_run_is_dropped() -> None:
    assert smoke(methods=("surrogate",)).reference is None
    assert smoke(methods=("original", "surrogate")).reference == "original"


def test_methods_of_the_profile_are_found_by_label() -> None:
    spec, _ = load_spec("demo", Overrides(methods=("original", "truncation-2")))
    assert [m.id for m in spec.methods] == ["original", "truncation-2"]
    assert spec.methods[1].args == {"last_turns": 2}


def test_the_prefix_cache_is_a_setting_of_the_run_or_of_one_method() -> None:
    spec = smoke(methods=("original", "original:prefix_cache=on", "surrogate:prefix_cache=off"))
    assert [m.id for m in spec.methods] == [
        *("original", "original:prefix_cache=on", "surrogate:prefix_cache=off")
    ]
    assert [m.args for m in spec.methods] == [{}, {}, {}]
    assert [spec.caches(m) for m in spec.methods] == [False, True, False]
    on = smoke(settings=("prefix_cache=on",), methods=("original", "surrogate:prefix_cache=off"))
    assert [on.caches(m) for m in on.methods] == [True, False]
    with pytest.raises(UserError, match=r"prefix_cache = 'yes': input should be 'on' or 'off'"):
        smoke(methods=("original:prefix_cache=yes",))


@pytest.mark.parametrize("profile", sorted(summaries("profiles")))
def test_every_profile_reports_the_original_with_and_without_caching(profile: str) -> None:
    spec, _ = load_spec(profile, Overrides())
    cached = {spec.caches(m) for m in spec.methods if m.name == spec.reference}
    assert cached == {True, False}


def test_sessions_either_wait_for_room_or_arrive_by_themselves() -> None:
    assert smoke().alone
    assert not smoke(concurrency=2).alone
    assert not smoke(arrival_rate=10.0).alone
    with pytest.raises(UserError, match="concurrency and arrival_rate exclude each other"):
        smoke(arrival_rate=10.0, concurrency=2)


def test_method_ids_sort_their_arguments() -> None:
    assert MethodSpec(name="m", args={"b": 1, "a": "x"}).id == "m:a=x,b=1"
    assert MethodSpec(name="m", label="mine", args={"b": 1}).id == "mine"


def test_command_line_methods() -> None:
    assert parse_named("m", "--tasks") == {"name": "m", "args": {}}
    found = parse_named("m:a=1,b=x,c=true", "--tasks")
    assert found == {"name": "m", "args": {"a": 1, "b": "x", "c": True}}
    assert parse_named("d/f.py:Name:a=1", "--tasks") == {"name": "d/f.py:Name", "args": {"a": 1}}
    with pytest.raises(UserError, match=r"--tasks: 'm:a': 'a' is not arg=value"):
        parse_named("m:a", "--tasks")


def test_a_task_of_the_command_line_keeps_what_the_profile_says_of_it() -> None:
    spec, _ = load_spec("smoke", Overrides(tasks=("planning", "drift:seed=3,controls=false")))
    planning, drift = spec.tasks
    assert (planning.limit, planning.max_turns) == (1, 3)
    assert drift.args == {"seed": 3, "controls": False}
    spec, _ = load_spec("drift", Overrides(tasks=("drift:seed=9",)))
    assert (spec.tasks[0].args, spec.tasks[0].limit) == ({"seed": 9}, 4)
    spec, _ = load_spec("paper-qwen", Overrides(tasks=("sharegpt:path=mine.json",)))
    assert spec.tasks[0].args == {"language": "en", "min_turns": 6, "path": "mine.json"}


@pytest.mark.parametrize("name", ["paper-qwen", "paper-llama"])
def test_the_paper_profiles_have_its_six_datasets(name: str) -> None:
    spec, _ = load_spec(name, Overrides())
    paper = {"sharegpt", "remedi", "craigslist", "multi_char", "math", "mt_bench"}
    assert {task.name for task in spec.tasks} == paper
    assert [task.name for task in spec.tasks if task.context is None] == ["math"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        ("a, b,", ["a", "b"]),
        ("a:x=1,y=2,b", ["a:x=1,y=2", "b"]),
        ("a:x=1,b:y=2", ["a:x=1", "b:y=2"]),
        ("a,d/f.py:C:x=1", ["a", "d/f.py:C:x=1"]),
    ],
)
def test_a_comma_parts_methods_and_their_arguments(text: str, parts: list[str]) -> None:
    assert split_named(text) == parts


def test_differences_name_the_dotted_path() -> None:
    old = {"a": {"b": 1, "c": [1, 2]}, "d": [1]}
    new = {"a": {"b": 2, "c": [1, 3]}, "d": [1, 2], "e": None}
    assert list(differences(old, new)) == [
        ("a.b", 1, 2),
        ("a.c[1]", 2, 3),
        ("d", [1], [1, 2]),
    ]
