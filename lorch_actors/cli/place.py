"""Where a command works."""

from pathlib import Path
from typing import NamedTuple

from lorch_actors.storage.workspace import Workspace


class Place(NamedTuple):
    """The workspace root and the configuration file, both absolute."""

    root: Path
    config: Path

    @property
    def workspace(self) -> Workspace:
        """Return the paths of the workspace."""
        return Workspace(self.root)
