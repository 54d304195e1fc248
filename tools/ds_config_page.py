"""Writes the keys in docs/ds_config.md: python -m tools.ds_config_page"""

from itertools import groupby
from pathlib import Path

from training.engine.ds_config.key import Key
from training.engine.ds_config.keys import TABLE

PAGE = Path(__file__).resolve().parent.parent / "docs" / "ds_config.md"
_BEGIN = "<!-- written by python -m tools.ds_config_page -->\n"
_END = "<!-- to here -->\n"


def table() -> str:
    """The keys by section, those of one fate and reason in a row."""
    sections: dict[str, list[Key]] = {}
    for key in TABLE.values():
        sections.setdefault(key.section, []).append(key)
    lines = []
    for section in sorted(sections):
        lines += [f"### {f'`{section}`' if section else 'At the top'}", ""]
        lines += ["| key | what becomes of it |", "|---|---|"]
        for (fate, says, fix), rows in groupby(sections[section], _fate):
            names = ", ".join(f"`{key.name}`" for key in rows)
            lines.append(f"| {names} | {_words(fate, says, fix)} |")
        lines.append("")
    return "\n".join(lines)


def page(text: str) -> str:
    """The page with today's table."""
    before, _, rest = text.partition(_BEGIN)
    return f"{before}{_BEGIN}\n{table()}\n{_END}{rest.partition(_END)[2]}"


def _fate(key: Key) -> tuple[str, str, str]:
    return key.fate, key.says, key.fix


def _words(fate: str, says: str, fix: str) -> str:
    if fate == "taken":
        return f"**taken**: {says}"
    if fate == "passed":
        return f"passed on{f', {says}' if says else ''}"
    if fate == "ignored":
        return f"without effect: {says}"
    return f"**refused**: {says} {fix}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
