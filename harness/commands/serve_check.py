"""`serve-check`: what a server can and cannot do for a benchmark, and the pair file for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import click
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.commands.plain_text import plain
from harness.config_errors import describe
from harness.engines.openai import probes, probes_vllm
from harness.engines.openai.models import ServedModel, named, served_models
from harness.engines.openai.options import Options
from harness.engines.openai.probes import Asker, Finding
from harness.engines.openai.secret import ApiKey
from harness.engines.openai.self_check import ClientCheck, measure_client
from harness.engines.openai.transport import Transport
from harness.errors import UserError

_STYLES: Mapping[str, str] = MappingProxyType({"yes": "green", "no": "red", "unknown": "yellow"})
_SHOWN_MODELS = 20
_CLIENT_TRIES = 3


@dataclass(frozen=True)
class Checked:
    """What a check found. `options`: what a pair file must say of the server."""

    url: str
    model: str
    findings: tuple[Finding, ...]
    options: dict[str, Any]
    client: ClientCheck

    @property
    def usable(self) -> bool:
        return not any(finding.fatal for finding in self.findings)


def check_server(url: str, *, model: str | None, api_key_env: str | None, as_json: bool) -> int:
    """Ask the server at `url` some small questions and print what follows from its answers.

    Returns 0 when it can be benchmarked, else 1. Raises UserError for a wrong address, key or
    model.
    """
    try:
        options = Options(base_url=url, api_key_env=api_key_env, attempts=2, stall_s=60.0)
    except ValidationError as error:
        raise describe(error, Options, "URL") from None
    key = ApiKey.from_environment(api_key_env)
    findings, asker = asyncio.run(_ask(options, key, model))
    client = _measured_client()
    findings.append(probes.client(client))
    wanted = {"base_url": options.base_url}
    if api_key_env is not None:
        wanted["api_key_env"] = api_key_env
    found = Checked(url, asker.model.id, tuple(findings), {**wanted, **asker.options}, client)
    click.echo(_as_json(found)) if as_json else _show(found)
    return 0 if found.usable else 1


async def _ask(options: Options, key: ApiKey, name: str | None) -> tuple[list[Finding], Asker]:
    transport = Transport(options, key)
    try:
        served = await served_models(transport, options, "URL")
        asker = Asker(transport, _chosen(served, name, transport))
        reply, findings = await probes.streaming(asker)
        findings.insert(0, probes.models(served, asker.model))
        if reply is not None:
            findings.append(probes.reasoning(reply))
            findings += await probes_vllm.token_ids(asker)
            findings += await probes_vllm.prefix_cache(asker)
            findings.append(await probes_vllm.adapters(asker))
        findings.append(probes.context(asker))
        return findings, asker
    finally:
        await transport.close()


def _chosen(served: tuple[ServedModel, ...], name: str | None, transport: Transport) -> ServedModel:
    """The model to ask. Raises UserError for a wrong name, and where one must be chosen."""
    if name is not None:
        return named(served, name, transport, "--model")
    bases = [model for model in served if not model.adapter]
    if len(bases) == 1:
        return bases[0]
    names = sorted(transport.describe(model.id) for model in bases)
    shown = ", ".join(names[:_SHOWN_MODELS]) + (", ..." if len(names) > _SHOWN_MODELS else "")
    raise UserError("--model", f"the server has {len(names)} models; name one of {shown or 'none'}")


def _measured_client() -> ClientCheck:
    """The client's check that passed, or the last of a few."""
    for _ in range(_CLIENT_TRIES - 1):
        check = measure_client()
        if check.passed:
            return check
    return measure_client()


def pair_snippet(found: Checked) -> str:
    """The tables of a pair file that make this server its F."""
    lines = [
        "[F]",
        'engine = "openai"',
        f"id = {_toml(found.model)}",
        '# tokenizer = "org/name"  # where methods count tokens, and for send = "ids"',
        "",
        "[F.options]",
        *(f"{key} = {_toml(value)}" for key, value in found.options.items()),
    ]
    return "\n".join(lines)


def _toml(value: Any) -> str:
    # A JSON string is a TOML string, but for one control character that TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _as_json(found: Checked) -> str:
    value = {
        "url": found.url,
        "model": found.model,
        "usable": found.usable,
        "findings": [asdict(finding) for finding in found.findings],
        "options": found.options,
        "client": found.client.record(),
    }
    return json.dumps(value, ensure_ascii=False, indent=2)


def _show(found: Checked) -> None:
    console = Console(emoji=False)
    table = Table(title=Text(plain(f"{found.model} at {found.url}")), show_lines=True)
    for heading in ("what", "", "seen", "what follows"):
        table.add_column(heading, overflow="fold")
    for finding in found.findings:
        verdict = Text(finding.verdict, style=_STYLES[finding.verdict])
        cells = (Text(plain(text)) for text in (finding.seen, finding.means))
        table.add_row(Text(finding.topic), verdict, *cells)
    console.print(table)
    if not found.usable:
        fatal = ", ".join(finding.topic for finding in found.findings if finding.fatal)
        console.print(f"This server cannot be benchmarked from here: see {fatal}.", markup=False)
        return
    console.print("It can be benchmarked. In a pair file:\n", markup=False)
    console.print(plain(pair_snippet(found)), markup=False, highlight=False, soft_wrap=True)
