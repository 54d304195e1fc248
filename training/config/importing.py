"""Things by the place they stand: "module:name" and "path/to/file.py:name", for parts and recipes
of one's own."""

import hashlib
import importlib
import importlib.util
import os
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from halting.errors import UsageError
from training.config.code_trust import check_code, module_files
from training.config.spelling import did_you_mean


def absolute(spec: str) -> str:
    """A spec "file.py:name" with the file's whole path, so that any directory finds it; other names
    as they are."""
    where, _, name = spec.rpartition(":")
    return f"{Path(where).absolute()}:{name}" if where.endswith(".py") else spec


def load(spec: str, asked: str) -> Any:
    """What a spec names.

    Args:
        spec: "module:name" (the current directory is importable) or "path/to/file.py:name".
        asked: what the user wrote, which opens the messages.

    Raises:
        UsageError: for a file or module that is not there, does not import or may not be run
            (`code_trust`), and a name that it has not got.
    """
    where, _, name = spec.rpartition(":")
    module = (
        _import_file(Path(where), asked) if where.endswith(".py") else _import_module(where, asked)
    )
    if not hasattr(module, name):
        defined = [
            key
            for key, thing in vars(module).items()
            if getattr(thing, "__module__", None) == module.__name__
        ]
        raise UsageError(
            f"{asked}: {where} has no {name!r}.",
            f"It defines {', '.join(defined) or 'nothing'}.",
            f"{did_you_mean(name, defined)}Write the name after the colon as it stands in the "
            "file.",
        )
    return getattr(module, name)


def _import_module(name: str, asked: str) -> ModuleType:
    # A console script has no current directory on its path. Last, so that nothing there hides an
    # installed module.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    check_code(lambda: module_files(name), asked)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not error.name or not f"{name}.".startswith(f"{error.name}."):
            raise _broken(asked, error) from error
        raise UsageError(
            f"{asked}: there is no module {name!r}.",
            "It is neither installed nor in the current directory.",
            "Start from the folder that holds it, or write the file itself: path/to/file.py:Name.",
        ) from None
    except Exception as error:
        raise _broken(asked, error) from error


def _import_file(path: Path, asked: str) -> ModuleType:
    """Imports a file by its own name where that is free, else under a name made from its path.

    By its own name its classes can be pickled, and are the same ones as when another module imports
    it. Its folder becomes importable, for its siblings.
    """
    path = path.resolve()
    if not path.is_file():
        raise UsageError(
            f"{asked}: there is no file {path}.",
            "The part before the colon is a path.",
            "Mend the path.",
        )
    check_code(lambda: [path], asked)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    importlib.invalidate_caches()
    name = path.stem
    if _origin(name) != path:
        name = f"{name}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path, loader=_AsItReads(name, str(path)))
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise _broken(asked, error) from error
    return module


class _AsItReads(SourceFileLoader):
    """Runs the text of a file, and never a compiled form of it that lies beside and could say
    something else."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def _origin(name: str) -> Path | None:
    """The file that a top-level module of this name is, or would be, loaded from."""
    if name in sys.modules:
        file = getattr(sys.modules[name], "__file__", None)
    else:
        spec = importlib.util.find_spec(name) if name.isidentifier() else None
        file = spec.origin if spec else None
    return Path(file).resolve() if file else None


def _broken(asked: str, error: Exception) -> UsageError:
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    line = f" (line {trace.tb_lineno} of {trace.tb_frame.f_code.co_filename})" if trace else ""
    return UsageError(
        f"{asked} could not be imported: {type(error).__name__}: {error}{line}.",
        "Its module runs once, to find the name after the colon.",
        "Mend that line; importing the module in `python` shows the whole traceback.",
    )
