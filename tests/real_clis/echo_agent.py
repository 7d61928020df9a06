"""An ACP agent on the protocol's own Python library: it does what the prompt says at its end, with the client's leave.

It is run with the interpreter that `install acp` made. It asks for leave before it writes, writes through the client,
and answers reviews with a verdict.
"""

import asyncio
import json
import os
import re
from typing import Any

from acp import Agent, InitializeResponse, NewSessionResponse, PromptResponse, run_agent, update_agent_message_text
from acp.schema import AgentCapabilities, PermissionOption, ToolCallLocation, ToolCallUpdate

OPTIONS = [
    PermissionOption(option_id="yes", name="Yes", kind="allow_once"),
    PermissionOption(option_id="no", name="No", kind="reject_once"),
]


class Echo(Agent):
    """One session at a time."""

    def on_connect(self, conn: Any) -> None:
        """Keep the client."""
        self.client = conn

    async def initialize(self, protocol_version: int, **_: Any) -> InitializeResponse:
        """Agree on the version."""
        return InitializeResponse(protocol_version=protocol_version, agent_capabilities=AgentCapabilities())

    async def new_session(self, cwd: str, **_: Any) -> NewSessionResponse:
        """Begin a session."""
        self.cwd = cwd
        return NewSessionResponse(session_id=f"echo-{os.getpid()}")

    async def prompt(self, session_id: str, prompt: list[Any], **_: Any) -> PromptResponse:
        """Do what the role asks for."""
        text = prompt[0].text
        task = re.search(r"Task (T-[0-9]+)[,:]", text)[1]
        if "You are the builder" in text:
            said = await self.build(session_id, task, "more" if "asks for changes" in text else "done")
        else:
            verdict = "no_changes_needed"
            if "You are the reviewer" in text:
                verdict = "changes_requested" if "round 1:" in text else "approved"
            said = json.dumps({"verdict": verdict, "summary": "fine", "findings": []})
        await self.client.session_update(session_id, update_agent_message_text(said))
        return PromptResponse(stop_reason="end_turn")

    async def build(self, session_id: str, task: str, content: str) -> str:
        """Write the task's file, if leave is given for a command."""
        path = os.path.join(self.cwd, "src", f"{task}.txt")
        kind = os.environ.get("ECHO_KIND", "edit")
        places = [ToolCallLocation(path=path)]
        call = ToolCallUpdate(tool_call_id="c-1", title=f"write {task}", kind=kind, locations=places)
        answer = await self.client.request_permission(session_id, call, OPTIONS)
        if getattr(answer.outcome, "option_id", None) != "yes":
            return "not allowed"
        await self.client.write_text_file(session_id, path, content)
        return f"{task} is done"


asyncio.run(run_agent(Echo()))
