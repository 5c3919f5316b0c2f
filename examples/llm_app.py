"""An app that sells prepaid credits and charges a model's streams by their tokens.

Beside `make up`: PREPAID=http://127.0.0.1:8000 KEY=ppk_… MODEL_URL=https://api.openai.com
"""

import json
import os
import time

import httpx
from prepaid_client import Client, Insufficient

prepaid = Client(os.environ["PREPAID"], os.environ["KEY"])
model = httpx.Client(base_url=os.environ["MODEL_URL"], timeout=60)
model.headers["Authorization"] = f"Bearer {os.environ.get('MODEL_KEY', 'none')}"
THRESHOLD, RECHARGE_SECONDS_MAX = 5, 60

rates = {"input_tokens": "2.50 / 1K", "output_tokens": "10 / 1K"}
book = {"name": "default", "markup": "20%", "prices": [{"models": ["gpt-4o"], "measures": rates}]}
prepaid.activate_price_book("default", prepaid.create_price_book(book)["version"])

acme = prepaid.create_organization("acme", "Acme")["slug"]
home = "https://acme.example"
page = prepaid.checkout(acme, 25, success_url=home, cancel_url=home)
print("checkout", page["url"])
paid = prepaid.complete_checkout(acme, page["id"])  # in test mode, without a browser
prepaid.auto_recharge(acme, threshold=THRESHOLD, amount=20, consented_by="jo@acme.example")


def ask(text):
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": text}], "max_tokens": 500}
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    estimate = {"input_tokens": len(text), "max_output_tokens": 500}
    with (
        prepaid.reserve(acme, model="gpt-4o", **estimate, user_id="jo") as call,
        model.stream("POST", "/v1/chat/completions", json=body) as answer,
    ):
        for line in answer.raise_for_status().iter_lines():
            chunk = json.loads(line[6:]) if line.startswith("data: {") else {}
            if chunk.get("usage"):
                call.record(chunk["usage"])
            elif chunk.get("choices"):
                call.add(output_tokens=1)
                print(chunk["choices"][0]["delta"].get("content", ""), end="")
    print("\ncharged", call.captured["captureAmount"], "left", call.captured["balanceAfter"])


ask("How are credits burned?")
prepaid.debit(acme, 20, transaction_id="import-1", category="import")  # and is recharged
# A server receives the message recharge.succeeded, and a refused caller waits for `retry_after`.
# This script has no address to receive at and was refused nothing: it reads the balance.
end = time.monotonic() + RECHARGE_SECONDS_MAX
while prepaid.balance(acme)["balance"] < THRESHOLD and time.monotonic() < end:
    time.sleep(0.2)
print("recharged to", prepaid.balance(acme)["balance"])
try:
    prepaid.debit(acme, 1000)
except Insufficient as refusal:
    print("refused:", refusal.required, "needed,", refusal.available, "available")
month = time.strftime("%Y-%m", time.gmtime())
print("statement", json.dumps(prepaid.statement(acme, month), default=str))
print("receipt", prepaid.receipt(acme, paid["transactionId"])["url"])
