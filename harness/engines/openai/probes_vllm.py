"""Questions about what goes beyond OpenAI's API: token ids, the prefix cache, adapters."""

from __future__ import annotations

import secrets
from random import Random

from harness.engines.openai.faults import NoAnswer, ServerRefused
from harness.engines.openai.probes import Asker, Finding, Verdict
from harness.errors import ContextOverflow

_LONG_PROMPT_TOKENS = 1500
"""Some servers cache prompts from 1,024 tokens on only."""
_SOME_IDS = (100, 101, 102, 103, 104, 105)
_WORDS = (
    "river stone window garden music paper winter bridge silver market island forest letter "
    "summer cloud mirror candle harbor valley engine"
)


async def token_ids(asker: Asker) -> list[Finding]:
    """Whether the server tells ids of prompts and replies, and whether it takes ids as prompts."""
    try:
        reply = (await asker.chat("Say hello.", 4, return_token_ids=True)).reply
        ids, problem = reply.prompt_ids, "they are asked for and not told"
    except (ServerRefused, NoAnswer) as error:
        ids, problem = None, str(error)
    if ids is None:
        means = "prompts are told apart by their text: nothing shows that two engines saw the same"
        told = Finding("token ids told", "no", problem, means)
    else:
        asker.options["token_ids"] = True
        means = "records hold the hash of the very prompt ids, as of the engines in this process"
        told = Finding("token ids told", "yes", f"{len(ids)} ids of a prompt", means)
    return [told, await _ids_taken(asker, ids or _SOME_IDS)]


async def _ids_taken(asker: Asker, ids: tuple[int, ...]) -> Finding:
    topic = "token ids taken"
    means = 'the template is the server\'s: only send = "messages" works, and no bare prompts'
    try:
        reply = (await asker.complete(ids)).reply
    except (ServerRefused, NoAnswer, ContextOverflow) as error:
        return Finding(topic, "no", str(error), means)
    seen = f"a prompt of {len(ids)} ids was taken as such"
    if reply.output_ids is None:
        return Finding(topic, "yes", seen, 'send = "ids" works with a tokenizer; no ids are told')
    return Finding(topic, "yes", seen, 'send = "ids" works, with the model\'s tokenizer named')


async def prefix_cache(asker: Asker) -> list[Finding]:
    """Whether cached tokens are told, and whether a salt keeps what is cached apart.

    A long prompt is sent twice with one salt, and once with another.
    """
    prompt = _long_prompt(asker.model.context_tokens)
    salts = [secrets.token_hex(16) for _ in range(2)]
    try:
        first = (await asker.chat(prompt, 4, cache_salt=salts[0])).reply
        again = (await asker.chat(prompt, 4, cache_salt=salts[0])).reply
        other = (await asker.chat(prompt, 4, cache_salt=salts[1])).reply
        refused = ""
    except ServerRefused as error:
        refused = str(error)
    except (NoAnswer, ContextOverflow) as error:
        means = 'what it caches cannot be seen: prefix_cache = "on" is all that can be run'
        return [Finding("prefix cache", "unknown", str(error), means)]
    if refused:
        try:
            first, again = [(await asker.chat(prompt, 4)).reply for _ in range(2)]
        except (ServerRefused, NoAnswer, ContextOverflow) as error:
            means = 'what it caches cannot be seen: prefix_cache = "on" is all that can be run'
            return [Finding("prefix cache", "unknown", str(error), means)]
        other = again
    told = first.cached_told or again.cached_told
    length, hit, elsewhere = again.tokens.prompt, again.tokens.cached, other.tokens.cached
    return [_told(told, length, hit), _salted(asker, refused, told, hit, elsewhere)]


def _told(told: bool, length: int, hit: int) -> Finding:
    topic = "cached tokens"
    if not told:
        means = "cached tokens count as full ones: in tokens, and at full price"
        return Finding(topic, "no", "usage tells nothing of the cache", means)
    seen = f"{hit} of {length} prompt tokens when the same prompt came again"
    if hit:
        return Finding(topic, "yes", seen, "they are told, and charged at their own price")
    return Finding(topic, "no", seen, 'nothing is cached: prefix_cache = "on" gains nothing here')


def _salted(asker: Asker, refused: str, told: bool, hit: int, elsewhere: int) -> Finding:
    topic = "cache salt"
    uncontrolled = (
        'prefix_cache = "off" cannot be honoured: methods and sessions share what the server '
        'caches; run with prefix_cache = "on", every method in a run of its own'
    )
    if refused:
        return Finding(topic, "no", refused, uncontrolled)
    if elsewhere and hit:
        seen = f"{elsewhere} tokens came from another salt's cache"
        return Finding(topic, "no", seen, uncontrolled)
    if not hit:
        # Not told, not cached yet, or never cached: which of them cannot be seen.
        means = (
            "whether it has any effect cannot be seen; set options.cache_salt = true only if the "
            f"server is known to heed it, or to cache nothing. Without it, {uncontrolled}"
        )
        seen = "cache_salt is taken, and " + ("nothing was cached" if told else "no cache is told")
        return Finding(topic, "unknown", seen, means)
    asker.options["cache_salt"] = True
    means = "sessions share no cache, and it can be turned off"
    return Finding(topic, "yes", "another salt finds nothing cached", means)


def _long_prompt(context_tokens: int | None) -> str:
    """Words that begin like no other prompt, of about a token each, in half the context at most."""
    nonce = secrets.token_hex(8)
    room = _LONG_PROMPT_TOKENS if context_tokens is None else context_tokens // 2 - 50
    count = max(16, min(_LONG_PROMPT_TOKENS, room))
    return f"{nonce}: {' '.join(Random(nonce).choices(_WORDS.split(), k=count))}"


async def adapters(asker: Asker) -> Finding:
    """Whether the server loads a LoRA while it runs: it is told to load one that is not there."""
    topic = "adapters"
    nonce = secrets.token_hex(8)
    body = {"lora_name": f"probe-{nonce}", "lora_path": f"/nowhere/probe-{nonce}"}
    verdict: Verdict
    try:
        await asker.transport.post("/load_lora_adapter", body)
    except (ServerRefused, NoAnswer) as error:
        verdict, seen = ("yes" if nonce in str(error) else "no"), str(error)
    else:
        await asker.transport.post("/unload_lora_adapter", {"lora_name": body["lora_name"]})
        verdict, seen = "unknown", "it claims to have loaded an adapter that is not there"
    if verdict != "yes":
        means = (
            "no method can serve an adapter here; vLLM does with --enable-lora and "
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
        )
        return Finding(topic, verdict, seen, means)
    asker.options["loads_adapters"] = True
    means = "a session's adapter can be served, if the server reads this machine's files"
    return Finding(topic, "yes", "it looks for an adapter that it is told to load", means)
