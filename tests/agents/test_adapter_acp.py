"""What is said to an ACP agent and what its answers mean, trap by trap."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from lorch_actors.agents.adapters.acp import Acp, AcpReader
from lorch_actors.agents.adapters.client import Permissions, Turn
from lorch_actors.agents.adapters.outcome import DONE, Kind
from lorch_actors.agents.approvals import Answer

OPTIONS = [{"optionId": f"the-{kind}", "name": kind, "kind": kind} for kind in ("reject_once", "allow_once")]


class Talk:
    """A talk with an agent that is played here."""

    def __init__(
        self, workspace: Path, permissions: Permissions = "workspace", *, says: bool = False, **turn: Any
    ) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.turn = Turn("do it", workspace, workspace / "home", permissions=permissions, **turn)

        def ask(tool: str, given: dict[str, Any]) -> Answer:
            self.asked.append((tool, given))
            return Answer(is_allowed=says, reason="")

        self.reader = AcpReader(self.turn, lambda _: None, ask)

    def hear(self, **message: Any) -> Any:
        """Give it a message of the agent's; return what it says to that."""
        answer = self.reader.hear({"jsonrpc": "2.0", **message})
        return json.loads(answer) if answer else None

    def begin(self, *, can_load: bool = True, session: str = "s-1") -> list[dict[str, Any]]:
        """Go as far as the prompt; return what was asked."""
        said = [json.loads(Acp().opening(self.turn))]
        said.append(self.hear(id=1, result={"protocolVersion": 1, "agentCapabilities": {"loadSession": can_load}}))
        said.append(self.hear(id=2, result={"sessionId": session} if said[-1]["method"] == "session/new" else None))
        return said

    def update(self, kind: str, **fields: Any) -> None:
        params = {"sessionId": "s-1", "update": {"sessionUpdate": kind, **fields}}
        assert self.hear(method="session/update", params=params) is None

    def permit(self, kind: str, *paths: Path) -> dict[str, Any]:
        call = {
            "toolCallId": "c-1",
            "title": f"{kind} it",
            "kind": kind,
            "locations": [{"path": str(p)} for p in paths],
        }
        params = {"sessionId": "s-1", "toolCall": call, "options": OPTIONS}
        return self.hear(id=7, method="session/request_permission", params=params)["result"]["outcome"]

    def end(self, reason: str = "end_turn") -> None:
        self.hear(id=3, result={"stopReason": reason})


def test_a_turn_is_initialize_a_session_a_prompt_and_its_answer(tmp_path: Path):
    """What is said after the last tool is the answer; what was said before is not."""
    talk = Talk(tmp_path)
    said = talk.begin()
    talk.update("agent_message_chunk", content={"type": "text", "text": "I will look."})
    talk.update("tool_call", toolCallId="c-1", title="look")
    for text in ("all ", "done"):
        talk.update("agent_message_chunk", content={"type": "text", "text": text})
    talk.end()

    assert [message["method"] for message in said] == ["initialize", "session/new", "session/prompt"]
    assert said[2]["params"] == {"sessionId": "s-1", "prompt": [{"type": "text", "text": "do it"}]}
    assert (talk.reader.outcome(0, ""), talk.reader.answer, talk.reader.session_id) == (DONE, "all done", "s-1")
    assert talk.reader.is_over


def test_a_session_is_loaded_where_the_agent_can_and_begun_anew_where_it_cannot(tmp_path: Path):
    """What it repeats of the old talk while it loads is no answer."""
    able, unable = Talk(tmp_path, resume="s-0"), Talk(tmp_path, resume="s-0")
    first = json.loads(able.reader.hear({"id": 1, "result": {"agentCapabilities": {"loadSession": True}}}))
    able.update("agent_message_chunk", content={"type": "text", "text": "said long ago"})
    prompt = able.hear(id=2, result=None)
    second = unable.begin(can_load=False)[1]

    assert (first["method"], first["params"]["sessionId"]) == ("session/load", "s-0")
    assert (prompt["params"]["sessionId"], able.reader.answer) == ("s-0", "")
    assert (second["method"], unable.reader.session_id) == ("session/new", "s-1")


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("refusal", Kind.REFUSED),
        ("cancelled", Kind.KILLED),
        ("max_tokens", Kind.CONTEXT_TOO_LONG),
        ("max_turn_requests", Kind.OVER_BUDGET),
        ("something_new", Kind.CRASHED),
    ],
)
def test_only_end_turn_is_done(tmp_path: Path, reason: str, kind: Kind):
    """Whatever other reason there is to stop, one of the future too."""
    talk = Talk(tmp_path)
    talk.begin()
    talk.end(reason)

    assert talk.reader.outcome(0, "").kind is kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": -32000, "message": "Authentication required"}, Kind.AUTHENTICATION),
        ({"code": -32000, "message": "Log in first"}, Kind.AUTHENTICATION),
        (
            {"code": -32603, "message": "Internal error", "data": {"details": "429 Too Many Requests"}},
            Kind.RATE_LIMITED,
        ),
        ({"code": -32603, "message": "Internal error"}, Kind.CRASHED),
    ],
)
def test_an_error_is_classified_by_code_and_words(tmp_path: Path, error: dict[str, Any], kind: Kind):
    """Its data too: agents put the provider's words there."""
    talk = Talk(tmp_path)
    talk.begin()
    talk.hear(id=3, error=error)

    assert talk.reader.outcome(0, "").kind is kind


def test_an_agent_that_ends_before_it_answers_has_crashed(tmp_path: Path):
    """Whatever its exit code."""
    talk = Talk(tmp_path)
    talk.begin()

    assert talk.reader.outcome(0, "").kind is Kind.CRASHED


@pytest.mark.parametrize(
    ("permissions", "kind", "path", "expected"),
    [
        ("workspace", "edit", "src/a", "the-allow_once"),
        ("workspace", "edit", "../a", "the-reject_once"),
        ("workspace", "edit", "link/a", "the-reject_once"),
        ("workspace", "execute", "src/a", "the-reject_once"),
        ("allow", "execute", "../a", "the-allow_once"),
    ],
)
def test_what_stays_in_the_workspace_is_allowed(
    tmp_path: Path, permissions: Permissions, kind: str, path: str, expected: str
):
    """Commands may do anything, so they do not stay; a link that leads out does not either."""
    workspace = tmp_path / "w"
    (workspace / "src").mkdir(parents=True)
    (workspace / "link").symlink_to(tmp_path)
    talk = Talk(workspace, permissions)
    talk.begin()

    assert talk.permit(kind, workspace / path) == {"outcome": "selected", "optionId": expected}
    assert talk.asked == []


@pytest.mark.parametrize("says", [True, False])
def test_under_ask_a_person_is_asked_for_what_leaves_the_workspace(tmp_path: Path, says: bool):
    """And for nothing else; exactly what is to be done is shown."""
    talk = Talk(tmp_path, "ask", says=says)
    talk.begin()
    inside, outside = talk.permit("edit", tmp_path / "a"), talk.permit("execute")

    assert [outcome["optionId"] for outcome in (inside, outside)] == [
        "the-allow_once",
        "the-allow_once" if says else "the-reject_once",
    ]
    assert talk.asked == [("execute it", {"kind": "execute", "locations": []})]


def test_a_denial_that_nothing_came_after_is_no_success(tmp_path: Path):
    """One that the agent found a way around is no failure."""
    stopped, went_on = Talk(tmp_path), Talk(tmp_path)
    for talk in (stopped, went_on):
        talk.begin()
        talk.permit("execute")
    went_on.update("tool_call_update", toolCallId="c-2", status="completed")
    stopped.end()
    went_on.end()

    assert stopped.reader.outcome(0, "").kind is Kind.PERMISSION_DENIED
    assert went_on.reader.outcome(0, "") == DONE


def test_a_reviewer_is_allowed_to_change_nothing(tmp_path: Path):
    """Neither by a tool of its own nor through us."""
    talk = Talk(tmp_path, may_write=False)
    talk.begin()
    params = {"sessionId": "s-1", "path": str(tmp_path / "a"), "content": "x"}

    assert talk.permit("edit", tmp_path / "a")["optionId"] == "the-reject_once"
    assert talk.hear(id=8, method="fs/write_text_file", params=params)["error"]["code"] == -32601
    assert not (tmp_path / "a").exists()


def test_files_are_read_and_written_below_the_workspace_only(tmp_path: Path):
    """Whole, or a few lines; a path that leaves is refused."""
    talk = Talk(tmp_path / "w")
    (tmp_path / "w").mkdir()
    (tmp_path / "secret").write_text("s")
    path = str(tmp_path / "w" / "src" / "a")
    written = talk.hear(id=8, method="fs/write_text_file", params={"path": path, "content": "1\n2\n3\n"})
    whole = talk.hear(id=9, method="fs/read_text_file", params={"path": path})
    part = talk.hear(id=10, method="fs/read_text_file", params={"path": path, "line": 2, "limit": 1})
    outside = talk.hear(id=11, method="fs/read_text_file", params={"path": str(tmp_path / "secret")})

    assert written["result"] == {}
    assert (whole["result"]["content"], part["result"]["content"]) == ("1\n2\n3\n", "2\n")
    assert outside["error"]["code"] == -32602


def test_a_link_out_of_the_workspace_is_not_followed(tmp_path: Path):
    """Neither for reading, nor to be allowed without a question; and nobody waits for the other end of a FIFO."""
    root = tmp_path / "w"
    root.mkdir()
    (tmp_path / "secret").write_text("SECRET")
    (root / "a").write_text("ours")
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "in").symlink_to(root / "a")
    os.mkfifo(root / "fifo")
    talk = Talk(root)
    said = {
        name: talk.hear(id=9, method="fs/read_text_file", params={"path": str(root / name)})
        for name in ("out", "in", "fifo")
    }

    assert said["in"]["result"]["content"] == "ours"
    assert "error" in said["out"]
    assert "error" in said["fifo"]
    assert talk.permit("edit", root / "out")["optionId"] == "the-reject_once"
    assert talk.permit("edit", root / "in")["optionId"] == "the-allow_once"


def test_trap_a_missing_file_is_answered_with_resource_not_found(tmp_path: Path):
    """Agents look for these words to tell a new file from a broken one."""
    answer = Talk(tmp_path).hear(id=8, method="fs/read_text_file", params={"path": str(tmp_path / "new")})

    assert "Resource not found" in answer["error"]["message"]


def test_a_request_that_is_not_served_is_refused(tmp_path: Path):
    """So that the agent does not wait for ever; notifications are passed over."""
    talk = Talk(tmp_path)

    assert talk.hear(id="x", method="terminal/create", params={})["error"]["code"] == -32601
    assert talk.hear(method="_vendor/news", params={}) is None
