"""An OpenAI-compatible server on loopback with a tiny model behind it, that can be told what to do wrong."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import torch
from support.byte_tokenizer import CHAT, byte_model
from support.web_server import on_loopback
from transformers import AutoModelForCausalLM, AutoTokenizer

KEY = "sk-very-secret"
STANDARD = {
    *("model", "prompt", "messages", "max_tokens", "temperature", "top_p"),
    *("frequency_penalty", "presence_penalty", "seed", "stop", "n"),
}


def ascii_model(folder: Path) -> Path:
    """The folder, with a tiny model of bytes that says printable characters and newlines, and sometimes ends."""
    byte_model(folder, chat_template=CHAT, max_position_embeddings=4096)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    texts = [tokenizer.decode([number]) for number in range(model.config.vocab_size)]
    with torch.no_grad():
        for number, text in enumerate(texts):
            if number > 2 and not (text.isascii() and text.isprintable()) and text != "\n":
                model.lm_head.weight[number] = 0.0
        model.lm_head.weight[:3] *= 1.5  # beginning and ends
    model.generation_config.update(eos_token_id=1, pad_token_id=0, repetition_penalty=1.3)
    model.save_pretrained(folder)
    return folder


@dataclass
class Served:
    """A model as transformers' own `generate` continues prompts, one at a time.

    Args:
        folder: of the model.
        name: by which it is asked.
        takes_ids, gives_ids: token ids as prompts and in replies.
        extras: fields beside OpenAI's are "taken", "ignored" or "refused".
        card: more fields of the model in the list of models.
        listed: names in that list; `None` is its own, a code is what the list's address answers.
        fault: what to do in place of the n-th question's answer: a code with headers, "hang", "die", bytes to send, or
            fields of the reply's choice to be replaced; `None` answers.
    """

    folder: Path
    name: str = "tiny"
    takes_ids: bool = True
    gives_ids: bool = True
    extras: str = "taken"
    card: dict[str, Any] = field(default_factory=dict)
    listed: list[str] | int | None = None
    fault: Callable[[int, dict[str, Any]], Any] = lambda number, body: None

    model: Any = None

    def __post_init__(self) -> None:
        self.model = self.model or AutoModelForCausalLM.from_pretrained(self.folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(self.folder)
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.url, self.ids_read = "", list[list[int]]()
        self.lock, self.over = threading.Lock(), threading.Event()
        self.under_way = self.most_under_way = 0

    def reply(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        is_chat = path.endswith("/chat/completions")
        unknown = set(body) - STANDARD
        if body["model"] != self.name:
            return 404, {"error": {"message": f"The model `{body['model']}` does not exist."}}
        if unknown and self.extras == "refused":
            return 422, {"error": {"message": f"Unexpected fields: {sorted(unknown)}"}}
        prompt = body.get("prompt")
        if isinstance(prompt, list) and not self.takes_ids:
            return 400, {"error": {"message": "prompt must be a string"}}
        ids = self._ids(body["messages"]) if is_chat else self._encoded(prompt)
        out, finish = self._continued(ids, body if self.extras == "taken" else {**body, "stop_token_ids": []})
        text = self.tokenizer.decode(out, skip_special_tokens=True)
        said = {"message": {"role": "assistant", "content": text}} if is_chat else {"text": text}
        choice = {"index": 0, "finish_reason": finish, **said}
        if self.gives_ids and self.extras == "taken" and body.get("return_token_ids"):
            choice["token_ids"] = out
        usage = {"prompt_tokens": len(ids), "completion_tokens": len(out), "total_tokens": len(ids) + len(out)}
        return 200, {"id": "x", "object": "text_completion", "created": 0, "model": self.name} | {
            "choices": [choice],
            "usage": usage,
        }

    def _encoded(self, prompt: str | list[int]) -> list[int]:
        return prompt if isinstance(prompt, list) else self.tokenizer(prompt)["input_ids"]

    def _ids(self, messages: list[dict[str, str]]) -> list[int]:
        options = {"add_generation_prompt": True, "return_dict": True}
        return self.tokenizer.apply_chat_template(messages, **options)["input_ids"]

    def _continued(self, ids: list[int], body: dict[str, Any]) -> tuple[list[int], str]:
        own = self.model.generation_config.eos_token_id
        ends = [*([own] if isinstance(own, int) else own or []), *body.get("stop_token_ids", [])]
        with self.lock, torch.no_grad():
            self.ids_read.append(ids)
            asked = torch.tensor([ids])
            out = self.model.generate(
                asked,
                attention_mask=torch.ones_like(asked),
                max_new_tokens=body["max_tokens"],
                min_new_tokens=body.get("min_tokens"),
                eos_token_id=ends,
                pad_token_id=0,
                do_sample=False,
                repetition_penalty=body.get("repetition_penalty", 1.0),
            )[0, len(ids) :].tolist()
        return out, "stop" if out[-1] in ends else "length"


@contextmanager
def serve(served: Served) -> Iterator[Served]:
    """The server at `served.url` while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def _send(self, code: int, content: Any, headers: dict[str, str] | None = None) -> None:
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(code)
            for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            served.headers.append(dict(self.headers))
            if isinstance(served.listed, int):
                self._send(served.listed, {"error": {"message": "no list"}})
                return
            names = [served.name] if served.listed is None else served.listed
            self._send(
                200, {"object": "list", "data": [{"id": name, "object": "model", **served.card} for name in names]}
            )

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            served.headers.append(dict(self.headers))
            number = len(served.asked)
            served.asked.append(body)
            served.under_way += 1
            served.most_under_way = max(served.most_under_way, served.under_way)
            try:
                self._faulty(served.fault(number, body), body)
            finally:
                served.under_way -= 1

        def _faulty(self, fault: Any, body: dict[str, Any]) -> None:
            if fault == "hang":
                served.over.wait(20)
            elif isinstance(fault, bytes):
                self._send(200, fault)
            elif fault == "die":
                self.close_connection = True
            elif isinstance(fault, tuple):
                self._send(fault[0], {"error": {"message": fault[2] if len(fault) > 2 else "later"}}, fault[1])
            else:
                code, reply = served.reply(self.path, body)
                if isinstance(fault, dict):
                    reply["choices"][0] |= fault.get("choice", {})
                    reply["usage"] |= fault.get("usage", {})
                self._send(code, reply)

        def log_message(self, *_: object) -> None:
            """Tests print nothing."""

    with on_loopback(Handler) as address:
        served.url = f"{address}/v1"
        try:
            yield served
        finally:
            served.over.set()
