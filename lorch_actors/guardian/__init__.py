"""The guardian: the outermost supervisor, a small process above the orchestrator. Standard library only."""

from lorch_actors.guardian.link import GuardianLink
from lorch_actors.guardian.supervising import RUN_ID_VARIABLE, UNCAUGHT, Limits, Orchestrate, guard

__all__ = ["RUN_ID_VARIABLE", "UNCAUGHT", "GuardianLink", "Limits", "Orchestrate", "guard"]
