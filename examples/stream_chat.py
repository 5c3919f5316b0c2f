"""Charge a chat completion by its tokens while it streams, asynchronously.

Usage: PREPAID=http://127.0.0.1:8000 KEY=ppk_… MODEL_URL=https://api.openai.com \
  python stream_chat.py ORGANIZATION TEXT
"""

import asyncio
import json
import os
import sys

import httpx
from prepaid_client import AsyncClient, Insufficient

MODEL = "gpt-4o"
OUTPUT_TOKENS_MAX = 500


async def chunks(model, text):
    """Yield the chunks of a completion, as OpenAI's API and those like it send them."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": OUTPUT_TOKENS_MAX,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    async with model.stream("POST", "/v1/chat/completions", json=body) as answer:
        async for line in answer.raise_for_status().aiter_lines():
            if line.startswith("data: {"):
                yield json.loads(line.removeprefix("data: "))


async def chat(prepaid, model, organization, text):
    """Print a completion. What was streamed is charged, also if the stream breaks."""
    reservation = prepaid.reserve(
        organization,
        model=MODEL,
        input_tokens=len(text.encode()),  # no text has more tokens than bytes
        max_output_tokens=OUTPUT_TOKENS_MAX,
    )
    async with reservation as call:
        async for chunk in chunks(model, text):
            if chunk.get("usage"):
                call.record(chunk["usage"])  # exact, with the last chunk
            elif chunk["choices"]:
                call.add(output_tokens=1)  # until then, a chunk is about a token
                print(chunk["choices"][0]["delta"].get("content", ""), end="", flush=True)


async def main(organization, text):
    async with (
        AsyncClient(os.environ["PREPAID"], os.environ["KEY"]) as prepaid,
        httpx.AsyncClient(base_url=os.environ["MODEL_URL"], timeout=60) as model,
    ):
        try:
            await chat(prepaid, model, organization, text)
        except Insufficient as refusal:
            print(f"{refusal.required} credits needed, {refusal.available} available")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
