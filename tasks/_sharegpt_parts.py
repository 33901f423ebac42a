"""ShareGPT's split conversations: which records are parts of which, and putting them together.

The file is read twice. The first pass keeps some 50 bytes of a record (`Index`), from which `plan`
tells what becomes of each; the second (`conversations`) holds parts back, compressed, until the
last one of their conversation has come.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from pathlib import Path
from types import MappingProxyType

from harness.errors import UserError
from harness.task import Drop
from tasks._sharegpt_records import Message, Record, records

_FIELDS = tuple(field.name for field in fields(Record))

_UNPACKED = 8 << 20
"""Characters of parts that wait as they are; those that come on top are compressed."""


class Fate(IntEnum):
    """What becomes of a record."""

    WHOLE = 0
    PART = 1
    DUPLICATE = 2
    CONFLICTING = 3
    MISSING = 4


_REASONS = MappingProxyType(
    {
        Fate.DUPLICATE: "duplicate_part",
        Fate.CONFLICTING: "conflicting_part",
        Fate.MISSING: "missing_part",
    }
)


@dataclass(frozen=True)
class Part:
    """What the first pass knows of a record: its number in the file, digests of its messages."""

    number: int
    index: int
    messages: tuple[int, ...]
    begins: bool
    """Whether its first message is the user's or the system's, as that of a whole conversation."""


@dataclass(frozen=True)
class Verdict:
    """What becomes of records that share a conversation's name, by their numbers.

    `chain`: those that make up one conversation, in order. Records in neither tuple are
    conversations of their own.
    """

    chain: tuple[int, ...]
    left_out: tuple[tuple[int, Fate], ...]


def settle(parts: Sequence[Part]) -> Verdict:
    """Put the parts of one conversation in a row by their indices, as far as these can be trusted.

    Of several parts with one index the longest that fits is taken, of equals the first. Where two
    parts say different things at one place of the conversation, the numbers are no indices: if all
    begin as a whole conversation does, they are conversations of their own.
    """
    ordered = sorted(parts, key=lambda p: (p.index, -len(p.messages), p.number))
    first = {part.index: part for part in reversed(ordered)}
    if all(part.begins for part in first.values()) and _disagree(first.values()):
        others = [part for part in ordered if part is not first[part.index]]
        left_out = [(p.number, _against(first[p.index].messages, p)) for p in others]
        return Verdict((), tuple(left_out))

    chain: list[int] = []
    said: list[int] = []
    left_out = []
    for part in ordered:
        known = said[part.index : part.index + len(part.messages)]
        if part.index > len(said):
            left_out.append((part.number, Fate.MISSING))
        elif len(known) == len(part.messages) or tuple(known) != part.messages[: len(known)]:
            left_out.append((part.number, _against(known, part)))
        else:
            chain.append(part.number)
            said += part.messages[len(known) :]
    return Verdict(tuple(chain), tuple(left_out))


def _against(known: Sequence[int], part: Part) -> Fate:
    """What a part is that adds nothing to what is `known` at its place, or contradicts it."""
    same = tuple(known[: len(part.messages)]) == part.messages
    return Fate.DUPLICATE if same else Fate.CONFLICTING


def _disagree(parts: Iterable[Part]) -> bool:
    """Whether two parts have different messages at one place."""
    at: dict[int, int] = {}
    return any(
        at.setdefault(part.index + i, message) != message
        for part in parts
        for i, message in enumerate(part.messages)
    )


class Index:
    """The first pass: flat arrays with one entry per record, and one per message."""

    def __init__(self) -> None:
        self.wholes = array("Q")
        self.indices = array("I")
        self.begins = array("B")
        self.ends = array("Q")
        """Where a record's digests end in `messages`."""
        self.messages = array("Q")

    def add(self, record: Record) -> None:
        self.wholes.append(_digest(record.whole))
        self.indices.append(record.index)
        self.begins.append(record.messages[0].role != "model")
        self.messages.extend(_digest(f"{m.role} {m.text.strip()}") for m in record.messages)
        self.ends.append(len(self.messages))

    def part(self, number: int) -> Part:
        start = self.ends[number - 1] if number else 0
        messages = tuple(self.messages[start : self.ends[number]])
        return Part(number, self.indices[number], messages, bool(self.begins[number]))

    def split(self) -> Iterator[list[int]]:
        """The numbers of records that share a conversation, or whose beginning is elsewhere."""
        import numpy as np

        wholes = np.frombuffer(self.wholes, dtype=np.uint64)
        order = np.argsort(wholes, kind="stable")
        grouped = wholes[order]
        starts = np.flatnonzero(np.r_[True, grouped[1:] != grouped[:-1]])
        ends = np.r_[starts[1:], len(order)]
        indices = np.frombuffer(self.indices, dtype=np.uint32)
        apart = (ends - starts == 1) & (indices[order[starts]] == 0)
        for start, end in zip(starts[~apart].tolist(), ends[~apart].tolist(), strict=True):
            yield order[start:end].tolist()


@dataclass(frozen=True)
class Plan:
    """By the number of a record: its `fate`; for a PART the record that leads its conversation.

    `sizes`: by the number of the leading record, of how many parts its conversation is made.
    """

    fates: bytearray
    leaders: array[int]
    sizes: array[int]


def plan(found: Iterable[Record | Drop]) -> Plan:
    """What becomes of every record: the first pass over the files."""
    index = Index()
    for record in found:
        if isinstance(record, Record):
            index.add(record)
    count = len(index.ends)
    made = Plan(bytearray(count), array("I", bytes(4 * count)), array("I", bytes(4 * count)))
    for numbers in index.split() if count else ():
        verdict = settle([index.part(number) for number in numbers])
        for number, fate in verdict.left_out:
            made.fates[number] = fate
        if len(verdict.chain) > 1:
            made.sizes[verdict.chain[0]] = len(verdict.chain)
            for number in verdict.chain:
                made.fates[number] = Fate.PART
                made.leaders[number] = verdict.chain[0]
    return made


def conversations(files: Sequence[Path], made: Plan) -> Iterator[tuple[Record, ...] | Drop]:
    """The second pass: every conversation as its parts in order, without what they repeat.

    A conversation comes where the last of its parts stands in the file.
    """
    waiting = _Waiting()
    number = -1
    for found in records(files):
        if isinstance(found, Drop):
            yield found
            continue
        number += 1
        if number == len(made.fates):
            break
        fate = Fate(made.fates[number])
        if fate == Fate.WHOLE:
            yield (found,)
        elif fate == Fate.PART:
            leader = made.leaders[number]
            parts = waiting.add(leader, found, made.sizes[leader])
            if parts:
                yield _joined(parts)
        else:
            yield Drop(_REASONS[fate], found.place, found.id)
    if number + 1 != len(made.fates):
        raise UserError(files[0].parent, "the data changed while they were read; run it again")


def _joined(parts: Sequence[Record]) -> tuple[Record, ...]:
    joined, said = [], 0
    for part in sorted(parts, key=lambda p: p.index):
        joined.append(replace(part, messages=part.messages[said - part.index :]))
        said = part.index + len(part.messages)
    return tuple(joined)


class _Waiting:
    """Parts of conversations of which others have not come yet."""

    def __init__(self) -> None:
        self._parts: dict[int, list[Record | tuple[int, bytes]]] = {}
        self._unpacked = 0

    def add(self, leader: int, part: Record, size: int) -> list[Record]:
        """All `size` parts of the conversation when this is the last one to come, else none."""
        parts = self._parts.setdefault(leader, [])
        if len(parts) + 1 < size:
            fits = self._unpacked + _characters(part) <= _UNPACKED
            self._unpacked += _characters(part) if fits else 0
            parts.append(part if fits else _pack(part))
            return []
        del self._parts[leader]
        self._unpacked -= sum(_characters(p) for p in parts if isinstance(p, Record))
        return [part, *(p if isinstance(p, Record) else _unpack(p) for p in parts)]


def _characters(record: Record) -> int:
    return sum(len(message.text) for message in record.messages)


def _pack(record: Record) -> tuple[int, bytes]:
    """A record compressed, and its size before: zstd takes a third of the time of zlib here."""
    import pyarrow

    values = [getattr(record, name) for name in _FIELDS]
    text = json.dumps(values, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return len(text), pyarrow.compress(text, codec="zstd", asbytes=True)


def _unpack(packed: tuple[int, bytes]) -> Record:
    import pyarrow

    size, data = packed
    text = pyarrow.decompress(data, decompressed_size=size, codec="zstd", asbytes=True)
    values = dict(zip(_FIELDS, json.loads(text.decode("utf-8", "surrogatepass")), strict=True))
    return Record(**{**values, "messages": tuple(Message(*m) for m in values["messages"])})


def _digest(text: str) -> int:
    """Eight bytes: they are compared within one conversation only, or tell conversations apart."""
    encoded = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(encoded, digest_size=8).digest(), "little")
