"""Which Python code a config may have imported, and so run.

A config names its parts, and a part may be a file: `rule.py:MyRule`. Whoever writes that on a
command line, or in Python, means to run it. A config that is read from somebody's folder runs code
of installed packages, and files that this user has trained with: the same place, the same bytes.
That is written down in the user's own state directory, never in a run folder, where a stranger
could write it as well. Everything else needs `--trust-code`."""

import contextlib
import hashlib
import importlib.util
import json
import os
import site
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from datetime import date
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlparse

from halting.errors import UsageError

FLAG = "--trust-code"
_OURS = ("act", "halting", "training")
_source: ContextVar[str | None] = ContextVar("_source", default=None)
_trusting: ContextVar[bool] = ContextVar("_trusting", default=False)


@contextlib.contextmanager
def trusting(everything: bool = True) -> Iterator[None]:
    """While it is entered, all code that a config names may run; nothing changes where
    `everything` is False."""
    before = _trusting.set(everything or _trusting.get())
    try:
        yield
    finally:
        _trusting.reset(before)


@contextlib.contextmanager
def reading(source: Path) -> Iterator[None]:
    """While it is entered, what is imported is named by a file or folder, and not by the user."""
    before = _source.set(str(source))
    try:
        yield
    finally:
        _source.reset(before)


def take_flag(words: Sequence[str]) -> tuple[list[str], bool]:
    """The words without `--trust-code`, and whether it was among them."""
    rest = [word for word in words if word.replace("_", "-") != FLAG]
    return rest, len(rest) < len(words)


def check_code(files: Callable[[], Sequence[Path]], asked: str) -> None:
    """Checks that files which a config names may be run; called before they are.

    Args:
        files: gives those outside of installed packages; looked for only where it matters.
        asked: what names them.

    Raises:
        UsageError: for one of a config that is read, which this user has not trained with.
    """
    source = _source.get()
    if source is None or _trusting.get():
        return
    for path in files():
        digest = _digest(path)
        store = _store()
        if digest is None or (store is not None and (store / _entry(path, digest)).is_file()):
            continue
        known = store is not None and any(store.glob(_entry(path, "*")))
        why = "has changed since you trained with it" if known else "is none that you trained with"
        raise UsageError(
            f"{source} names code outside of installed packages: {asked}.",
            f"Reading it would run {path}, with your rights; it {why}.",
            f"Look at that file. If you trust it, add {FLAG} to the command (in Python: "
            "trust_code=True).",
        )


def remember(files: Sequence[Path]) -> None:
    """Writes down, in the user's state directory, that files were trained with as they are now.
    Where that cannot be written, they are trusted by `--trust-code` alone."""
    store = _store()
    for path in files:
        if store is None or (digest := _digest(path)) is None:
            continue
        record = {"file": str(path), "sha256": digest, "date": date.today().isoformat()}
        place = store / _entry(path, digest)
        with contextlib.suppress(OSError):
            if not place.is_file():
                place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                beside = place.with_name(f".{place.name}-{os.getpid()}")
                beside.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
                beside.replace(place)


def files_of(spec: str) -> list[Path]:
    """The files outside of installed packages that importing a spec runs first: "file.py:name",
    "module:name"; none for an exported name. Nothing is imported."""
    where, _, _ = spec.rpartition(":")
    if where.endswith(".py"):
        return [Path(where).resolve()]
    return module_files(where) if where else []


def module_files(name: str) -> list[Path]:
    """The files of a module and of the packages that it is in, where these are not installed."""
    top, *below = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):  # it is there, and has none: what is run as __main__
        return []
    if spec is None or (spec.origin is None and not spec.submodule_search_locations):
        return []
    folders = [Path(each).resolve() for each in spec.submodule_search_locations or ()]
    places = [Path(spec.origin).resolve()] if spec.has_location and spec.origin else folders
    if not places or all(_is_installed(top, place) for place in places):
        return []
    files = [place for place in places if place.is_file()]
    for folder in folders:
        for part in below:
            folder = folder / part
            files += [
                each
                for each in (folder.with_suffix(".py"), folder / "__init__.py")
                if each.is_file()
            ]
    return files


def _is_installed(top: str, place: Path) -> bool:
    """Whether a file, or the folder of a namespace, belongs to Python, to a package that was
    installed (also as a checkout, by pip install -e), or to this one."""
    if top in _OURS and Path(__file__).resolve().parents[2] in place.parents:
        return True
    paths = sysconfig.get_paths()
    roots = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    roots += [*site.getsitepackages(), site.getusersitepackages()]
    if any(Path(root).resolve() in place.parents for root in roots):
        return True
    editable = (
        _checkout(distribution)
        for distribution in metadata.packages_distributions().get(top, ())
        if top not in sys.stdlib_module_names
    )
    return any(root in place.parents for root in editable if root is not None)


def _checkout(distribution: str) -> Path | None:
    """Where an editable distribution lies."""
    try:
        about = json.loads(metadata.distribution(distribution).read_text("direct_url.json") or "{}")
    except (metadata.PackageNotFoundError, ValueError):
        return None
    if not about.get("dir_info", {}).get("editable"):
        return None
    return Path(unquote(urlparse(about["url"]).path)).resolve()


def _store() -> Path | None:
    """The folder of what this user has trained with: a file each. None for one without a home."""
    given = os.environ.get("XDG_STATE_HOME", "")
    try:
        state = Path(given) if os.path.isabs(given) else Path.home() / ".local" / "state"
    except RuntimeError:
        return None
    return state / "ponderloop" / "trusted-code"


def _entry(path: Path, digest: str) -> str:
    place = hashlib.sha256(str(path.resolve()).encode()).hexdigest()
    return f"{place[:32]}-{digest}.json"


def _digest(path: Path) -> str | None:
    """Of a file; None where there is none to run."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
