"""A ds_config, sorted by what becomes of each of its keys."""

import json
from dataclasses import dataclass, field
from typing import Any

from halting.errors import UsageError
from training.config.spelling import did_you_mean
from training.engine.ds_config.key import Key
from training.engine.ds_config.keys import (
    ALIASES,
    SECTIONS,
    TABLE,
    asks_for_nothing,
    children,
    homes,
)

_COMMENTS = ("_", "/", "#", "comment")


@dataclass
class SortedSettings:
    """What a file says, by what becomes of it.

    Args:
        where: the file, for messages.
        taken: values that become the run's, by the path of their key.
        passed: what DeepSpeed gets, sections within sections.
        ignored: paths of keys without effect.
        reasons: what cannot be.
    """

    where: str
    taken: dict[str, Any] = field(default_factory=dict)
    passed: dict[str, Any] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    reasons: list[UsageError] = field(default_factory=list)

    @classmethod
    def of(cls, given: dict[str, Any], where: str) -> "SortedSettings":
        """Sorts a whole file. Keys that are null or "auto" are as if they were not there, and so
        are comments."""
        made = cls(where)
        made._sort({ALIASES.get(name, name): value for name, value in given.items()}, "")
        return made

    def refuse(self, key: str, value: Any, why: str, fix: str) -> None:
        """Adds a reason about a value of the file."""
        self.reasons.append(UsageError(f"{self.where}: {key} = {shown(value)}.", why, fix))

    def _sort(self, section: dict[str, Any], path: str) -> None:
        known = children(path)
        for name, value in section.items():
            if name.startswith(_COMMENTS) and name not in known:
                continue
            if name not in known:
                self._refuse_unknown(name, value, path, known)
            elif known[name] in SECTIONS:
                self._enter(known[name], value)
            else:
                self._place(TABLE[known[name]], value)

    def _enter(self, path: str, value: Any) -> None:
        if value is None or value == "auto":
            return
        if path == "zero_optimization" and isinstance(value, bool):  # of DeepSpeed's first versions
            value = {"stage": int(value)}
        if path == "zero_optimization":
            self.passed.setdefault(path, {})
        if isinstance(value, dict):
            self._sort(value, path)
        else:
            self.refuse(path, value, "It is a section.", f'Write {{"{path}": {{…}}}}, or drop it.')

    def _place(self, key: Key, value: Any) -> None:
        if value is None or value == "auto":
            return
        if key.fate == "refused":
            if not asks_for_nothing(key.path, value):
                self.refuse(key.path, value, key.says, key.fix)
        elif key.fate == "ignored":
            self.ignored.append(key.path)
        elif key.fate == "taken":
            self.taken[key.path] = value
        else:
            holder = self.passed
            for word in key.section.split(".") if key.section else ():
                holder = holder.setdefault(word, {})
            holder[key.name] = without_auto(value)

    def _refuse_unknown(self, name: str, value: Any, path: str, known: dict[str, str]) -> None:
        places = homes(name)
        what = f"{self.where} has the key {path}{'.' if path else ''}{name} ({shown(value)})."
        # The same name in another section may still be this one's, misspelt.
        meant = did_you_mean(name, known, lambda each: known[each])
        if places and not (meant and len(places) > 1):
            where = " or ".join(_section_of(place) for place in places[:3])
            self.reasons.append(
                UsageError(
                    what,
                    f"{name} belongs {where}, and nobody would read it here.",
                    "Move it there, or drop it.",
                )
            )
            return
        if not meant:
            everywhere = {each.rpartition(".")[2]: each for each in (*TABLE, *SECTIONS)}
            meant = did_you_mean(name, everywhere, lambda each: everywhere[each])
        holder = f"DeepSpeed's {path}" if path else "a ds_config"
        self.reasons.append(
            UsageError(
                what,
                f"There is no such key in {holder}, and DeepSpeed passes some over in silence.",
                f"{meant}Write one that docs/ds_config.md lists, or drop it.",
            )
        )


def _section_of(path: str) -> str:
    section = path.rpartition(".")[0]
    return f"into {section}" if section else "at the top of the file"


def without_auto(value: Any) -> Any:
    """The value without what is "auto" in it."""
    if isinstance(value, dict):
        return {name: without_auto(each) for name, each in value.items() if each != "auto"}
    return value


def shown(value: Any) -> str:
    """A value as the file has it, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:79]}…"
