"""A server that speaks as OpenAI's or vLLM's does: the same request gets the same reply.

What it can do is set; what it was asked is kept. Its tokens are words: the ids of a text are made
of its words, and a reply is words that follow from the prompt's ids.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

BLOCK = 16
END = 2


@dataclass(frozen=True)
class Ability:
    """What the server can do, and how it does it.

    `model`: its name. `key`: what it wants as a key. `tokens_per_chunk`: 0, all in one. `burst`:
    all chunks are held back until the last.
    `reasoning`: so many tokens of thought before the reply, counted or not. `salt`: what it makes
    of a cache_salt. `adapters`: routes to load them, with the largest rank, or none.
    """

    model: str = "words"
    others: tuple[str, ...] = ()
    key: str | None = None
    max_model_len: int | None = 4096
    tokens_per_chunk: int = 1
    burst: bool = False
    gap_s: float = 0.0
    token_ids: bool = True
    ids_route: bool = True
    reasoning: int = 0
    counts_reasoning: bool = True
    reasoning_key: Literal["reasoning", "reasoning_content"] = "reasoning"
    tells_cached: bool = True
    salt: Literal["honoured", "ignored", "refused"] = "honoured"
    strict: bool = False
    adapters: int | None = 16


@dataclass
class Backend:
    """`asked`: the body of every request for a reply, in order. `adapters`: those loaded. `most`:
    so many requests at most were being answered at the same time."""

    ability: Ability = field(default_factory=Ability)
    asked: list[dict[str, Any]] = field(default_factory=list)
    adapters: dict[str, str] = field(default_factory=dict)
    unloaded: list[str] = field(default_factory=list)
    cached: dict[str, list[list[int]]] = field(default_factory=dict)
    most: int = 0
    _now: int = 0

    def app(self) -> web.Application:
        app = web.Application(client_max_size=2**26, middlewares=[self._guard])
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._chat)
        if self.ability.ids_route:
            app.router.add_post("/v1/completions", self._completions)
        if self.ability.adapters is not None:
            app.router.add_post("/v1/load_lora_adapter", self._load)
            app.router.add_post("/v1/unload_lora_adapter", self._unload)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        key = self.ability.key
        given = request.headers.get("Authorization")
        if key is not None and given != f"Bearer {key}":
            return _error(401, f"Incorrect API key provided: {given}")
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _models(self, request: web.Request) -> web.Response:
        names = [self.ability.model, *self.ability.others]
        data: list[dict[str, Any]] = [{"id": name, "object": "model"} for name in names]
        if self.ability.max_model_len is not None:
            data[0]["max_model_len"] = self.ability.max_model_len
        data += [{"id": name, "parent": names[0]} for name in self.adapters]
        return web.json_response({"object": "list", "data": data})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        text = " ".join(f"{m['role']} {m['content']}" for m in body["messages"])
        most = body.get("max_tokens") or body.get("max_completion_tokens")
        return await self._reply(request, body, ids_of(text), most, chat=True)

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        return await self._reply(request, body, body["prompt"], body["max_tokens"], chat=False)

    async def _reply(
        self,
        request: web.Request,
        body: dict[str, Any],
        prompt: list[int],
        most: int,
        *,
        chat: bool,
    ) -> web.StreamResponse:
        self.asked.append(body)
        problem = self._problem(body, prompt, most)
        if problem is not None:
            return problem
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            return await self._stream(request, body, prompt, most, chat=chat)
        finally:
            self._now -= 1

    async def _stream(
        self,
        request: web.Request,
        body: dict[str, Any],
        prompt: list[int],
        most: int,
        *,
        chat: bool,
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        held = b""
        async for event in self._events(body, prompt, most, chat=chat):
            held += f"data: {json.dumps(event)}\n\n".encode()
            if not self.ability.burst:
                await response.write(held)
                held = b""
        await response.write(held + b"data: [DONE]\n\n")
        return response

    def _problem(self, body: dict[str, Any], prompt: list[int], most: int) -> web.Response | None:
        ability = self.ability
        known = {ability.model, *ability.others, *self.adapters}
        if body["model"] not in known:
            return _error(404, f"The model `{body['model']}` does not exist.")
        if ability.max_model_len is not None and len(prompt) + most > ability.max_model_len:
            length = ability.max_model_len
            return _error(400, f"This model's maximum context length is {length} tokens.")
        strange = {"return_token_ids", "cache_salt", "chat_template_kwargs"} & body.keys()
        if ability.strict and strange:
            return _error(400, f"Unknown parameter: '{min(strange)}'.")
        if ability.salt == "refused" and "cache_salt" in body:
            return _error(400, "Unknown parameter: 'cache_salt'.")
        return None

    async def _events(
        self, body: dict[str, Any], prompt: list[int], most: int, *, chat: bool
    ) -> AsyncIterator[dict[str, Any]]:
        ability = self.ability
        tell = bool(body.get("return_token_ids")) and ability.token_ids
        cached = self._cached(body, prompt)
        output = reply_ids(prompt, body["model"], most)
        ended = output[-1] == END
        if chat:
            first = {"choices": [_choice(chat, "", None, role="assistant")]}
            yield first | ({"prompt_token_ids": prompt} if tell else {})
        size = ability.tokens_per_chunk or len(output)
        for start in range(0, len(output), size):
            ids = output[start : start + size]
            last = start + size >= len(output)
            thought = start < ability.reasoning
            finish = ("stop" if ended else "length") if last else None
            choice = _choice(chat, words(ids), finish, thought=ability.reasoning_key * thought)
            if tell:
                choice["token_ids"] = ids
                if not chat and start == 0:
                    choice["prompt_token_ids"] = prompt
            await asyncio.sleep(ability.gap_s)
            yield {"choices": [choice]}
        usage: dict[str, Any] = {
            "prompt_tokens": len(prompt),
            "completion_tokens": len(output),
            "total_tokens": len(prompt) + len(output),
        }
        if ability.tells_cached:
            usage["prompt_tokens_details"] = {"cached_tokens": cached}
        if ability.reasoning and ability.counts_reasoning:
            counted = min(ability.reasoning, len(output))
            usage["completion_tokens_details"] = {"reasoning_tokens": counted}
        if body.get("stream_options", {}).get("include_usage"):
            yield {"choices": [], "usage": usage}

    def _cached(self, body: dict[str, Any], prompt: list[int]) -> int:
        """How much of the prompt an earlier one with this salt began with, in whole blocks."""
        salt = body.get("cache_salt", "") if self.ability.salt == "honoured" else ""
        earlier = self.cached.setdefault(f"{body['model']} {salt}", [])
        common = 0
        for other in earlier:
            pairs = zip(prompt, other, strict=False)
            common = max(common, next((i for i, (a, b) in enumerate(pairs) if a != b), len(other)))
        earlier.append(prompt)
        return min(common, len(prompt) - 1) // BLOCK * BLOCK

    async def _load(self, request: web.Request) -> web.Response:
        from pathlib import Path

        body = await request.json()
        name, folder = body["lora_name"], Path(body["lora_path"])
        if name in self.adapters:
            return _error(400, f"The lora adapter '{name}' has already been loaded.")
        if not (folder / "adapter_config.json").is_file():
            return _error(404, f"No adapter found for '{folder}'")
        rank = json.loads((folder / "adapter_config.json").read_text("utf-8"))["r"]
        if rank > (self.ability.adapters or 0):
            return _error(500, f"LoRA rank {rank} is greater than {self.ability.adapters}.")
        self.adapters[name] = str(folder)
        return web.Response(text="Success")

    async def _unload(self, request: web.Request) -> web.Response:
        name = (await request.json())["lora_name"]
        if self.adapters.pop(name, None) is None:
            return _error(404, f"The lora adapter '{name}' cannot be found.")
        self.unloaded.append(name)
        return web.Response(text="Success")


def ids_of(text: str) -> list[int]:
    return [zlib.crc32(word.encode()) % 30000 + 100 for word in text.split()]


def words(ids: list[int]) -> str:
    return "".join(f" w{i}" for i in ids if i != END)


def reply_ids(prompt: list[int], model: str, most: int) -> list[int]:
    """Ids that follow from the prompt and the model's name; END after twelve, if not before."""
    seed = zlib.crc32(json.dumps([prompt, model]).encode())
    ids = [(seed + 7919 * place) % 30000 + 100 for place in range(12)]
    return [*ids, END][:most]


def _choice(
    chat: bool, text: str, finish: str | None, *, role: str = "", thought: str = ""
) -> dict[str, Any]:
    if not chat:
        return {"index": 0, "text": text, "finish_reason": finish}
    delta = {"role": role} if role else {}
    return {"index": 0, "delta": {**delta, thought or "content": text}, "finish_reason": finish}


def _error(status: int, message: str) -> web.Response:
    error = {"message": message, "type": "Error", "code": status}
    return web.json_response({"error": error}, status=status)
