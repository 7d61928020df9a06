"""The tree of a run: which actors there are, in which order they start, and what each is given."""

import os
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from lorch_actors.actors import ring
from lorch_actors.actors.agent import AgentActor
from lorch_actors.actors.agent_keeper import Part
from lorch_actors.actors.approver import Approver
from lorch_actors.actors.child import ChildSpec, Strategy, child
from lorch_actors.actors.conductor import Conductor, Score
from lorch_actors.actors.ledger_worker import LedgerPlace
from lorch_actors.actors.ledger_writer import LedgerWriter
from lorch_actors.actors.opening import Opening
from lorch_actors.actors.restart_recorder import RestartRecorder
from lorch_actors.actors.run_state_keeper import KeeperPlace, RunStateKeeper
from lorch_actors.actors.snapshotter import Snapshotter, TreePlace
from lorch_actors.actors.starting import planned_tasks
from lorch_actors.actors.supervisor import Supervisor, branch
from lorch_actors.actors.terminal import terminal_for
from lorch_actors.actors.transcript import Console, Transcript
from lorch_actors.protocol.messages import AgentRole
from lorch_actors.records.history import Loaded, vouched
from lorch_actors.storage.workspace import Workspace
from lorch_actors.workflow.parts import ProcessRef
from lorch_actors.workflow.state import LOOP_ROLES

if TYPE_CHECKING:
    from lorch_actors.guardian.link import GuardianLink

SHUTDOWN_MS = 10_000
"""How long an agent, and so what stands above it, has to end in order."""

START_MS = 60_000
"""How long a start may take: a long ledger is folded in it."""


class RunTree(Struct, frozen=True):
    """What the actors of a run are made from."""

    workspace: Workspace
    opening: Opening
    process: ProcessRef
    started_at: str
    link: "GuardianLink"
    console: Console | None

    def root(self) -> ChildSpec:
        """Return the spec of the run supervisor: the ledger first, and with it, when its front fails, the ring."""
        opening, policy = self.opening, self.opening.policy
        limits: dict[str, Any] = {
            "intensity": policy.supervisor.restarts,
            "period_ms": round(policy.supervisor.period_s * 1000),
            "report_to": RestartRecorder.NAME,
        }
        ours = {**os.environ}
        agents = branch(ring.AGENT_SUPERVISOR, children=[self._agent(role, ours) for role in LOOP_ROLES], **limits)
        around = branch(ring.RING_SUPERVISOR, children=[*self._projections(), agents, self._conductor()], **limits)
        run_id = opening.run_id
        place = LedgerPlace(
            path=self.workspace.ledger(run_id),
            lock=self.workspace.ledger_lock(run_id),
            run_id=run_id,
            started_at=self.started_at,
            vouched=vouched(self.workspace, run_id),
            start=opening.loaded.position if opening.loaded.position.seq else None,
        )
        stall_ms = round(policy.worker_stall_s * 1000)
        before = opening.loaded.run
        nth = before.resumes + 1 if before.started else 0
        recorder = child(RestartRecorder, RestartRecorder.NAME, run_id=run_id, nth=nth)
        ledger = child(LedgerWriter, ring.LEDGER, place=place, seen=opening.loaded.recent_ids, stall_ms=stall_ms)
        return child(
            Supervisor,
            ring.RUN_SUPERVISOR,
            children=[ledger, recorder, around],
            strategy=Strategy.REST_FOR_ONE,
            shutdown_ms=SHUTDOWN_MS,
            start_timeout_ms=START_MS,
            **limits,
        )

    def _projections(self) -> list[ChildSpec]:
        opening, workspace, run_id = self.opening, self.workspace, self.opening.run_id
        policy = opening.policy
        stall_ms = round(policy.worker_stall_s * 1000)
        tree = TreePlace(
            root=workspace.root,
            run_id=run_id,
            include=opening.include,
            exclude=opening.exclude,
            verify=policy.verify_artifacts,
            artifact_max_bytes=policy.artifact_max_bytes,
        )
        keeper = KeeperPlace(workspace.root, run_id, self.started_at)
        return [
            child(RunStateKeeper, ring.RUN_STATE, place=keeper, stall_ms=stall_ms),
            child(Snapshotter, ring.SNAPSHOTTER, place=tree, stall_ms=stall_ms),
            child(
                Transcript,
                ring.TRANSCRIPT,
                ledger=workspace.ledger(run_id),
                run_id=run_id,
                path=workspace.transcript(run_id),
                mark=workspace.transcript_mark,
                console=self.console,
            ),
            child(
                Approver,
                ring.APPROVER,
                run_id=run_id,
                workspace=workspace,
                redactor=opening.redactor,
                terminal=terminal_for(self.console),
            ),
        ]

    def _conductor(self) -> ChildSpec:
        opening = self.opening
        run = opening.loaded.run
        if run.started and len(run.tasks) < run.task_count:
            run = replace(run, planned=planned_tasks(self.workspace, run))
        score = Score(
            root=self.workspace.root,
            ledger=self.workspace.ledger(opening.run_id),
            loaded=Loaded(run, opening.loaded.position),
            opening=opening.event,
            process=self.process,
            link=self.link,
        )
        return child(Conductor, ring.CONDUCTOR, score=score, start_timeout_ms=START_MS)

    def _agent(self, role: AgentRole, inherited: dict[str, str]) -> ChildSpec:
        opening = self.opening
        settings = opening.agents[role]
        own = {
            "LORCH_AGENT_TYPE": role,
            "AGENT_TYPE": role,
            "LORCH_RUN_ID": opening.run_id,
            "LORCH_WORKSPACE": str(self.workspace.root),
            "PWD": str(self.workspace.root),  # some tools believe it more than where they are
            "LORCH_HEARTBEAT_INTERVAL_S": f"{settings.heartbeat_interval_s:g}",
            "LORCH_PERMISSIONS": settings.permissions,
        }
        part = Part(
            role=role,
            run_id=opening.run_id,
            cmd=tuple(settings.cmd),
            env={**inherited, **settings.env, **own},
            heartbeat_interval_s=settings.heartbeat_interval_s,
            workspace=self.workspace.root,
            log=self.workspace.log(role, opening.run_id),
            policy=opening.policy,
        )
        return child(AgentActor, role, part=part, redactor=opening.redactor, shutdown_ms=SHUTDOWN_MS)
