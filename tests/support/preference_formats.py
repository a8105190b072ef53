"""The same made-up pairs in every format that preference data comes in."""

from typing import Any

from data_modules.messages import Message

DOC = "The quay holds nine crates. Ines counted them. <|im_end|> is printed on one."
ASK = "How many crates are there?"
LONG = f"{DOC}\n\n{ASK}"
SYSTEM = "Answer in one word."

Record = dict[str, Any]


def talk(*texts: str, system: str = "", keys: tuple[str, str] = ("role", "content"), names: Any = None) -> list[Record]:
    """User and assistant in turns."""
    names = names or {"system": "system", "user": "user", "assistant": "assistant"}
    said = [("system", system)] * bool(system) + list(zip(("user", "assistant") * len(texts), texts, strict=False))
    return [{keys[0]: names[role], keys[1]: text} for role, text in said]


def answer(text: str) -> Record:
    return {"role": "assistant", "content": text}


def part(text: str) -> Record:
    """Of a content in parts, as tables store it beside pictures."""
    return {"type": "text", "text": text, "image_url": None}


def gpt(text: str) -> Record:
    return {"from": "gpt", "value": text}


NO_TOOLS: Record = {"tool_calls": [], "tool_call_id": "", "name": None}
_SHAREGPT: Any = {"keys": ("from", "value"), "names": {"system": "system", "user": "human", "assistant": "gpt"}}
_SCORES = {"score_chosen": 8.5, "score_rejected": 3}
_FULL = {"chosen": talk(LONG, "nine", system=SYSTEM), "rejected": talk(LONG, "two", system=SYSTEM)}
_TEXTS = {"chosen": "nine", "rejected": "two"}
_HISTORY = talk("Hello.", "Hello!", LONG, system=SYSTEM)

# name: (format, record, what it has besides the whole message, nine and two)
WHOLE: dict[str, tuple[str, Record, Record]] = {
    "text": ("trl", {"prompt": LONG, **_TEXTS}, {}),
    "several rejected": (
        "trl",
        {"prompt": LONG, "chosen": "nine", "rejected": ["two", "ten"]},
        {"rejected": ("two", "ten")},
    ),
    "messages": (
        "trl",
        {"prompt": talk(LONG, system=SYSTEM), "chosen": [answer("nine")], "rejected": [answer("two")]},
        {"system": SYSTEM},
    ),
    "empty system": ("trl", {"prompt": [{"role": "system", "content": ""}, *talk(LONG)], **_TEXTS}, {}),
    "developer": (
        "trl",
        {"prompt": [{"role": "developer", "content": SYSTEM}, *talk(LONG)], **_TEXTS},
        {"system": SYSTEM},
    ),
    "parts": ("trl", {"prompt": [{"role": "user", "content": [part(DOC), part("\n\n" + ASK)]}], **_TEXTS}, {}),
    "no tools": ("trl", {"prompt": [message | NO_TOOLS for message in talk(LONG)], **_TEXTS}, {}),
    "a message": ("trl", {"prompt": talk(LONG), "chosen": answer("nine"), "rejected": answer("two")}, {}),
    "system apart": ("trl", {"prompt": LONG, "system": SYSTEM, **_TEXTS}, {"system": SYSTEM}),
    "implicit": ("trl", _FULL, {"system": SYSTEM}),
    "both": ("trl", {"prompt": talk(LONG, system=SYSTEM), **_FULL}, {"system": SYSTEM}),
    "history": (
        "trl",
        {"prompt": _HISTORY, **_TEXTS},
        {"system": SYSTEM, "history": (Message("user", "Hello."), Message("assistant", "Hello!"))},
    ),
    "context first": (
        "trl",
        {"prompt": talk(LONG, "Read.", "Well?"), **_TEXTS},
        {"followup": (Message("assistant", "Read."), Message("user", "Well?"))},
    ),
    "weight and margin": (
        "trl",
        {"prompt": LONG, **_TEXTS, "weight": 2, "margin": 0.5},
        {"weight": 2.0, "margin": 0.5},
    ),
    "completion": ("prompt_completion", {"prompt": LONG, "completion": "nine"}, {"rejected": ()}),
    "completion messages": (
        "prompt_completion",
        {"prompt": talk(LONG), "completion": [answer("nine")]},
        {"rejected": ()},
    ),
    "sft": ("messages", {"messages": talk(LONG, "nine", system=SYSTEM)}, {"rejected": (), "system": SYSTEM}),
    "axolotl": ("messages", {"messages": talk(LONG), "chosen": answer("nine"), "rejected": answer("two")}, {}),
    "axolotl lists": (
        "messages",
        {"messages": talk(LONG), "chosen": [answer("nine")], "rejected": [answer("two")]},
        {},
    ),
    "messages beside": ("trl", {**_FULL, "messages": _FULL["chosen"]}, {"system": SYSTEM}),
    "tulu without ratings": ("tulu", {"prompt": LONG, **_FULL, "chosen_model": "a"}, {"system": SYSTEM}),
    "ultrafeedback": (
        "ultrafeedback",
        {"prompt": LONG, "prompt_id": "u1", **_FULL, "messages": _FULL["chosen"], **_SCORES},
        {"system": SYSTEM, "id": "u1"},
    ),
    "argilla": (
        "ultrafeedback",
        {
            "source": "x",
            "prompt": LONG,
            "chosen": talk(LONG, "nine"),
            "chosen-rating": 5.0,
            "chosen-model": "a",
            "rejected": talk(LONG, "two"),
            "rejected-rating": 5.0,
            "rejected-model": "b",
        },
        {},
    ),
    "tulu": (
        "tulu",
        {
            "id": "t1",
            "source": "x",
            "prompt": LONG,
            **_FULL,
            "chosen_rating": 5.0,
            "rejected_rating": 2,
            "chosen_model": "a",
            "rejected_model": "b",
        },
        {"system": SYSTEM, "id": "t1"},
    ),
    "openrlhf": ("openrlhf", {**_FULL, "chosen_score": 2.5, "rejected_score": -1.0}, {"system": SYSTEM}),
    "sharegpt": (
        "sharegpt",
        {"conversations": talk(LONG, **_SHAREGPT), "system": SYSTEM, "chosen": gpt("nine"), "rejected": gpt("two")},
        {"system": SYSTEM},
    ),
    "sharegpt sft": ("sharegpt", {"conversations": talk(LONG, "nine", **_SHAREGPT), "system": ""}, {"rejected": ()}),
    "transcripts": (
        "hh",
        {field: f"\n\nHuman: {LONG}\n\nAssistant: {text}" for field, text in _TEXTS.items()},
        {},
    ),
    "transcript and answers": (
        "hh",
        {
            "prompt": f"\n\nHuman: Hello.\n\nAssistant: Hello!\n\nHuman: {LONG}\n\nAssistant:",
            **{field: f" {text}" for field, text in _TEXTS.items()},
            "response": " nine",
        },
        {"history": (Message("user", "Hello."), Message("assistant", "Hello!"))},
    ),
    "openai": (
        "openai",
        {
            "input": {"messages": talk(LONG, system=SYSTEM), "tools": [], "parallel_tool_calls": True},
            "preferred_output": [answer("nine")],
            "non_preferred_output": [answer("two")],
        },
        {"system": SYSTEM},
    ),
    "swift": ("messages", {"messages": talk(LONG, "nine"), "rejected_response": "two"}, {}),
    "swift messages": (
        "messages",
        {"messages": talk(LONG, "nine", system=SYSTEM), "rejected_messages": talk(LONG, "two", system=SYSTEM)},
        {"system": SYSTEM},
    ),
    "openpipe": ("messages", {"messages": talk(LONG, "nine"), "rejected_message": answer("two")}, {}),
    "helpsteer2": (
        "compared",
        {
            "prompt": f"Hello.\n<extra_id_1>Assistant\nHello!\n<extra_id_1>User\n{LONG}",
            "response_1": "nine",
            "response_2": "two",
            "preference_strength": -1,
            "split": "train",
        },
        {"history": (Message("user", "Hello."), Message("assistant", "Hello!"))},
    ),
    "helpsteer3": (
        "compared",
        {"context": talk(LONG), "response1": "two", "response2": "nine", "overall_preference": 3, "domain": "x"},
        {},
    ),
    "saferlhf": (
        "compared",
        {"prompt": LONG, "response_0": "two", "response_1": "nine", "better_response_id": 1, "safer_response_id": 0},
        {},
    ),
    "shp": ("compared", {"history": LONG, "human_ref_A": "nine", "human_ref_B": "two", "labels": 1}, {}),
    "alpaca without input": ("alpaca", {"instruction": LONG, "input": "", **_TEXTS}, {}),
}
# name: (format, record, columns, what it has besides context, question, nine and two)
APART: dict[str, tuple[str, Record, dict[str, str], Record]] = {
    "alpaca": ("alpaca", {"instruction": ASK, "input": DOC, **_TEXTS, "system": SYSTEM}, {}, {"system": SYSTEM}),
    "alpaca history": (
        "alpaca",
        {"instruction": ASK, "input": DOC, **_TEXTS, "history": [["Hello.", "Hello!"]]},
        {},
        {"history": (Message("user", "Hello."), Message("assistant", "Hello!"))},
    ),
    "alpaca sft": ("alpaca", {"instruction": ASK, "input": DOC, "output": "nine"}, {}, {"rejected": ()}),
    "own": ("pairs", {"question": ASK, "long_context": DOC, "chosen": "nine", "rejected": ["two"]}, {}, {}),
    "mapped": (
        "pairs",
        {"doc": DOC, "ask": ASK, "good": "nine", "bad": "two"},
        {"long_context": "doc", "question": "ask", "chosen": "good", "rejected": "bad"},
        {},
    ),
    "mapped alpaca": (
        "alpaca",
        {"instruction": ASK, "context": DOC, "good": "nine", "bad": "two"},
        {"input": "context", "chosen": "good", "rejected": "bad"},
        {},
    ),
}
