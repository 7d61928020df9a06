"""How a model's answer looks on the wire: Anthropic Messages, OpenAI Responses and Chat Completions, Gemini."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Say:
    """The model says something and ends its turn."""

    text: str


@dataclass(frozen=True)
class Call:
    """The model calls a tool."""

    tool: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Fail:
    """The provider answers with an error. message: its words; code: what it calls the error; more: beside these."""

    status: int
    message: str
    code: str = "error"
    headers: dict[str, str] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Hang:
    """Nothing comes."""


@dataclass(frozen=True)
class Drop:
    """The answer begins and the connection is gone."""


Step = Say | Call | Fail | Hang | Drop
Piece = tuple[str, dict[str, Any]]
"""One server-sent event: its name, which may be empty, and its data."""

USED = {"in": 11, "out": 7}


def dialect_of(path: str) -> "Dialect | None":
    """Return who speaks at this path."""
    route = path.partition("?")[0]
    if route.endswith("/messages"):
        return Anthropic()
    if route.endswith("/responses"):
        return Responses()
    if route.endswith("/chat/completions"):
        return Chat()
    return Gemini() if "enerateContent" in route else None


class Dialect(ABC):
    def is_main(self, body: dict[str, Any]) -> bool:
        """Tell whether this request is the agent's own, not one for a title or a summary."""
        return bool(body.get("tools"))

    @abstractmethod
    def pieces(self, step: Say | Call, number: int) -> Iterator[Piece]:
        """Yield what a model's answer is made of, as the wire has it."""

    def error(self, fail: Fail) -> dict[str, Any]:
        return {"error": {"message": fail.message, "type": fail.code, "code": fail.code, **fail.more}}


class Anthropic(Dialect):
    def pieces(self, step: Say | Call, number: int) -> Iterator[Piece]:
        reason = "end_turn" if isinstance(step, Say) else "tool_use"
        if isinstance(step, Say):
            block: dict[str, Any] = {"type": "text", "text": ""}
            delta = {"type": "text_delta", "text": step.text}
        else:
            block = {"type": "tool_use", "id": f"toolu_{number:04}", "name": step.tool, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(step.arguments)}
        message = {
            "id": f"msg_{number:04}",
            "type": "message",
            "role": "assistant",
            "model": "fake-model",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": USED["in"], "output_tokens": 1},
        }
        end = {"delta": {"stop_reason": reason, "stop_sequence": None}, "usage": {"output_tokens": USED["out"]}}
        for name, data in (
            ("message_start", {"message": message}),
            ("content_block_start", {"index": 0, "content_block": block}),
            ("content_block_delta", {"index": 0, "delta": delta}),
            ("content_block_stop", {"index": 0}),
            ("message_delta", end),
            ("message_stop", {}),
        ):
            yield name, {"type": name, **data}

    def error(self, fail: Fail) -> dict[str, Any]:
        return {"type": "error", "error": {"type": fail.code, "message": fail.message}}


class Responses(Dialect):
    def pieces(self, step: Say | Call, number: int) -> Iterator[Piece]:
        response = {"id": f"resp_{number:04}", "object": "response", "status": "in_progress", "model": "fake-model"}
        if isinstance(step, Say):
            content = [{"type": "output_text", "text": step.text, "annotations": []}]
            item = {"type": "message", "id": f"msg_{number:04}", "role": "assistant", "content": content}
        else:
            item = {
                "type": "function_call",
                "id": f"fc_{number:04}",
                "call_id": f"call_{number:04}",
                "name": step.tool,
                "arguments": json.dumps(step.arguments),
            }
        used = {
            "input_tokens": USED["in"],
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": USED["out"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": USED["in"] + USED["out"],
        }
        ended = {**response, "status": "completed", "output": [item], "usage": used}
        for name, data in (
            ("response.created", {"response": response}),
            ("response.output_item.added", {"output_index": 0, "item": item}),
            ("response.output_item.done", {"output_index": 0, "item": item}),
            ("response.completed", {"response": ended}),
        ):
            yield name, {"type": name, **data}


class Chat(Dialect):
    def pieces(self, step: Say | Call, number: int) -> Iterator[Piece]:
        base = {"id": f"chat-{number:04}", "object": "chat.completion.chunk", "created": 0, "model": "fake-model"}
        if isinstance(step, Say):
            delta: dict[str, Any] = {"role": "assistant", "content": step.text}
        else:
            function = {"name": step.tool, "arguments": json.dumps(step.arguments)}
            call = {"index": 0, "id": f"call_{number:04}", "type": "function", "function": function}
            delta = {"role": "assistant", "content": None, "tool_calls": [call]}
        reason = "stop" if isinstance(step, Say) else "tool_calls"
        used = {"prompt_tokens": USED["in"], "completion_tokens": USED["out"], "total_tokens": sum(USED.values())}
        yield "", {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        yield "", {**base, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}
        yield "", {**base, "choices": [], "usage": used}


class Gemini(Dialect):
    def pieces(self, step: Say | Call, number: int) -> Iterator[Piece]:
        if isinstance(step, Say):
            part: dict[str, Any] = {"text": step.text}
        else:
            part = {"functionCall": {"id": f"call-{number:04}", "name": step.tool, "args": step.arguments}}
        used = {"promptTokenCount": USED["in"], "candidatesTokenCount": USED["out"], "totalTokenCount": 18}
        content = {"role": "model", "parts": [part]}
        yield "", {"candidates": [{"content": content, "finishReason": "STOP", "index": 0}], "usageMetadata": used}

    def error(self, fail: Fail) -> dict[str, Any]:
        return {"error": {"code": fail.status, "message": fail.message, "status": fail.code, **fail.more}}
