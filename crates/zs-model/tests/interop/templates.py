"""Renders chat templates as transformers does, as the reference for `cargo test -p zs-model --test chat`.

    pip install transformers jinja2
    python templates.py OUT.json DIR_OR_FILE...
    ZS_TEMPLATES=OUT.json cargo test -p zs-model --test chat

Each template (`*.jinja`) is rendered for every conversation below, on a fixed date. OUT holds the
templates, the variables, and the rendered texts; `null` where transformers fails too.
"""

import datetime
import json
import pathlib
import sys

from transformers.utils import chat_template_utils

DATE = datetime.datetime(2024, 7, 26, 12, 0, 0)
TOKENS = {
    "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>",
}


class Clock(datetime.datetime):
    """Stands still, so that two programs render the same day."""

    @classmethod
    def now(cls, tz=None):
        return DATE


def message(role, content, **more):
    return {"role": role, "content": content, **more}


TOOL = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Searches <the> 'web' & \"more\" – état.",
        "parameters": {
            "type": "object",
            "properties": {
                "query": {"type": "string", "description": "The query."},
                "k": {"type": "integer", "default": 3, "enum": [1, 3, 10]},
                "exact": {"type": "boolean", "default": False},
                "weight": {"type": ["number", "null"], "default": None, "minimum": 0.5},
            },
            "required": ["query"],
        },
    },
}
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "search", "arguments": {"query": "capital of \"France\"", "k": 3, "exact": True}},
}
PLAIN = [message("user", "What is 1 < 2 & \"so\"?\n\nSay\tit: état 東京 🎬  ")]
TURNS = [message("user", "Who?"), message("assistant", "Anna."), message("user", " And where? ")]
THOUGHT = [
    message("user", "Who?"),
    message("assistant", "<think>\nhm\n</think>\n\nAnna."),
    message("user", "Sure?"),
]
SYSTEM = message("system", "You are brief.")
CALLED = [
    message("user", "Capital of France?"),
    message("assistant", "", tool_calls=[CALL]),
    message("tool", "{\"title\": \"Paris\"}", name="search", tool_call_id="call_1"),
]
CONVERSATIONS = {
    "user": dict(messages=PLAIN),
    "system": dict(messages=[SYSTEM, *PLAIN]),
    "turns": dict(messages=TURNS),
    "system and turns": dict(messages=[SYSTEM, *TURNS]),
    "thought": dict(messages=THOUGHT),
    "closed": dict(messages=THOUGHT[:2], add_generation_prompt=False),
    "no thinking": dict(messages=PLAIN, enable_thinking=False),
    "tools": dict(messages=PLAIN, tools=[TOOL]),
    "system and tools": dict(messages=[SYSTEM, *PLAIN], tools=[TOOL, TOOL]),
    "called": dict(messages=CALLED, tools=[TOOL]),
    "called and answered": dict(
        messages=[*CALLED, message("assistant", "Paris."), message("user", "Thanks.")], tools=[TOOL]
    ),
}


def render(template, conversation):
    conversation = dict(conversation)
    messages = conversation.pop("messages")
    try:
        rendered = chat_template_utils.render_jinja_template(
            [messages], chat_template=template, **TOKENS,
            **{"add_generation_prompt": True, **conversation},
        )
    except Exception as error:
        print(f"  fails: {type(error).__name__}: {str(error)[:100]}", file=sys.stderr)
        return None
    return (rendered[0] if isinstance(rendered, tuple) else rendered)[0]


def main():
    chat_template_utils.datetime = Clock
    out, *sources = sys.argv[1:]
    paths = [path for it in map(pathlib.Path, sources) for path in (sorted(it.glob("*.jinja")) if it.is_dir() else [it])]
    templates = {}
    for path in paths:
        print(path.name, file=sys.stderr)
        source = path.read_bytes().decode()
        rendered = {name: render(source, it) for name, it in CONVERSATIONS.items()}
        templates[path.name] = {"source": source, "rendered": rendered}
    result = {"tokens": TOKENS, "conversations": CONVERSATIONS, "templates": templates}
    pathlib.Path(out).write_text(json.dumps(result, ensure_ascii=False, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
