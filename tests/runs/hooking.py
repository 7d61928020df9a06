"""Code of a test that runs in the program, behind a module of it, without a hook in the program."""

import os
from pathlib import Path

_SITECUSTOMIZE = """
import importlib.abc
import importlib.util
import sys

MODULE, CODE = {module!r}, {code!r}


class Loader(importlib.abc.Loader):
    def __init__(self, inner):
        self.inner = inner

    def create_module(self, spec):
        return self.inner.create_module(spec)

    def exec_module(self, module):
        self.inner.exec_module(module)
        exec(compile(CODE, "<hooked>", "exec"), vars(module))


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        spec.loader = Loader(spec.loader)
        return spec


sys.meta_path.insert(0, Finder())
"""


def hooked(directory: Path, module: str, code: str) -> dict[str, str]:
    """Return an environment in which the code is run in that module, when it has been imported."""
    directory.mkdir()
    (directory / "sitecustomize.py").write_text(_SITECUSTOMIZE.format(module=module, code=code))
    path = os.pathsep.join(filter(None, (str(directory), os.environ.get("PYTHONPATH"))))
    return {"PYTHONPATH": path}
