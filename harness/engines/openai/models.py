"""What a server says it serves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.engines.openai.faults import NoAnswer, ServerRefused
from harness.engines.openai.options import Options
from harness.engines.openai.transport import Transport
from harness.errors import UserError, nearest

_UNAUTHORIZED = (401, 403)
_MANY = 20


@dataclass(frozen=True)
class ServedModel:
    """`context_tokens`: None where the server does not tell. `adapter`: a LoRA on another model."""

    id: str
    context_tokens: int | None
    adapter: bool


async def served_models(
    transport: Transport, options: Options, place: str
) -> tuple[ServedModel, ...]:
    """All models of a server. Raises UserError, at `place`, for a wrong address or key."""
    place = f"{place} = {options.base_url!r}"
    try:
        answer = await transport.get("/models")
    except NoAnswer as error:
        raise UserError(place, f"does not answer: {error.failures[-1]}") from None
    except ServerRefused as error:
        if error.status in _UNAUTHORIZED:
            variable = options.api_key_env
            what = f"the key in {variable}" if variable else "requests without a key (api_key_env)"
            raise UserError(place, f"does not accept {what}: {error}") from None
        problem = f"has no list of models: {error}; give the address up to and with /v1"
        raise UserError(place, problem) from None
    models = _read(answer)
    if models is None:
        problem = "answers with something that is no list of models; give it up to and with /v1"
        raise UserError(place, problem)
    return models


def named(
    models: tuple[ServedModel, ...], model: str, transport: Transport, place: str
) -> ServedModel:
    """The served model of that name. Raises UserError, at `place`, naming those there are."""
    for served in models:
        if served.id == model:
            return served
    names = sorted(transport.describe(served.id) for served in models)
    some = ", ".join(names[:_MANY]) + (", ..." if len(names) > _MANY else "")
    problem = f"the server has no such model, but {some or 'none at all'}"
    close = nearest(model, names)
    raise UserError(
        f"{place} = {model!r}", f"{problem}; {close}" if "did you mean" in close else problem
    )


def _read(answer: Any) -> tuple[ServedModel, ...] | None:
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, list):
        return None
    return tuple(
        _model(entry)
        for entry in data
        if isinstance(entry, dict) and isinstance(entry.get("id"), str)
    )


def _model(entry: dict[str, Any]) -> ServedModel:
    length = entry.get("max_model_len")
    known = isinstance(length, int) and not isinstance(length, bool) and length > 0
    return ServedModel(entry["id"], length if known else None, bool(entry.get("parent")))
