"""The ponder map as a piece of static HTML, without scripts or network access: what notebooks
show."""

from html import escape

import numpy as np

from halting.maps.ponder_map import PonderMap
from halting.maps.viewers.caption import difficulty_name, facts, percent
from halting.maps.viewers.colours import BLANK, WRONG, step_colour, text_on
from halting.maps.viewers.visible_text import visible

# Cells bring their own colours; all else takes the notebook's, light or dark.
_STYLE = f"""
.ponder-map {{ font: 15px/1.45 system-ui, sans-serif; overflow-wrap: anywhere; }}
.ponder-map h2 {{ font-size: 1em; margin: 1.2em 0 .4em; }}
.ponder-map .facts, .ponder-map .legend {{ margin: .3em 0; opacity: .85; }}
.ponder-map .strip {{ display: flex; flex-wrap: wrap; gap: 2px; }}
.ponder-map .strip span {{ min-width: 1.1em; padding: 0 .25em; border-radius: 3px;
  text-align: center;
  font: 14px/1.3 ui-monospace, Menlo, Consolas, monospace; white-space: pre-wrap; }}
.ponder-map b {{ display: block; font-size: .75em; font-weight: 400; }}
.ponder-map .blank {{ background: {BLANK}; color: #000; }}
.ponder-map .wrong {{ outline: 2px solid {WRONG}; outline-offset: -1px; }}
.ponder-map .wrong b::before {{ content: "✗"; }}
.ponder-map .legend span {{ display: inline-block; min-width: 1.5em; padding: 0 .2em;
  text-align: center; }}
"""


def snippet(ponder_map: PonderMap, sequences: int) -> str:
    """Facts, legend and the strips of the first sequences."""
    shown = min(sequences, ponder_map.num_sequences)
    known = [*facts(ponder_map), f"{shown} of {ponder_map.num_sequences} sequences"]
    strips = [_strip(ponder_map.sequence(row), row) for row in range(shown)]
    classes = [
        _step_class(step, ponder_map.max_steps) for step in range(1, ponder_map.max_steps + 1)
    ]
    return "\n".join(
        [
            f'<div class="ponder-map">\n<style>{_STYLE}{"".join(classes)}</style>',
            f'<p class="facts">{escape(" · ".join(known))}</p>',
            _legend(ponder_map),
            *strips,
            "</div>",
        ]
    )


def _step_class(step: int, max_steps: int) -> str:
    background = step_colour(step, max_steps)
    return (
        f".ponder-map .s{step}of{max_steps} {{ background: {background}; color: "
        f"{text_on(background)}; }}\n"
    )


def _legend(ponder_map: PonderMap) -> str:
    """A swatch for each number of steps, or for some twelve of them; and what the cross means."""
    steps = np.unique(
        np.linspace(1, ponder_map.max_steps, min(ponder_map.max_steps, 12)).round().astype(int)
    )
    swatches = "".join(
        f'<span class="s{step}of{ponder_map.max_steps}">{step}</span>' for step in steps
    )
    cross = " &nbsp; ✗ wrong answer" if ponder_map.wrong.any() else ""
    return f'<p class="legend">steps {swatches}{cross}</p>'


def _strip(sequence: PonderMap, row: int) -> str:
    cells = "".join(_cell(sequence, place) for place in range(sequence.valid.shape[1]))
    return f'<h2>sequence {row + 1}</h2>\n<div class="strip">{cells or "(no tokens)"}</div>'


def _cell(sequence: PonderMap, place: int) -> str:
    steps = int(sequence.steps[0, place])
    wrong = " wrong" if sequence.wrong[0, place] else ""
    colour = (
        f"s{steps}of{sequence.max_steps}" if steps else "blank"
    )  # a notebook shows maps of several depths
    text = escape(visible(sequence.texts[0][place]))
    title = escape(_details(sequence, place))
    return f'<span class="{colour}{wrong}" title="{title}">{text}<b>{steps}</b></span>'


def _details(sequence: PonderMap, place: int) -> str:
    """What is known of one token, a line each."""
    steps = int(sequence.steps[0, place])
    ponder = float(sequence.ponder[0, place])
    lines = [f"token {place}: {visible(sequence.texts[0][place])}"]
    lines.append(
        f"steps {steps} of {sequence.max_steps}"
        + (f", ponder {ponder:.2f}" if ponder != steps else "")
    )
    spent = [(n + 1, float(m)) for n, m in enumerate(sequence.mass[0, place]) if m >= 0.005]
    lines.append("exit mass " + ", ".join(f"{share:.2f} at step {step}" for step, share in spent))
    lines += _readouts(sequence, place)
    if sequence.final_prediction is not None and sequence.has_target[0, place]:
        lines.append(
            f"said {visible(sequence.answer_text(int(sequence.final_prediction[0, place])))}"
        )
    if sequence.targets is not None and sequence.has_target[0, place]:
        lines.append(
            f"right answer {visible(sequence.answer_text(int(sequence.targets[0, place])))}"
        )
    if sequence.difficulty is not None and np.isfinite(sequence.difficulty[0, place]):
        lines.append(f"{difficulty_name(sequence)} {sequence.difficulty[0, place]:.4g}")
    return "\n".join(lines)


def _readouts(sequence: PonderMap, place: int) -> list[str]:
    """What it would have said at each step that it took, with the probability where that is
    known."""
    if sequence.predictions is None:
        return []
    said = []
    for step in range(int(sequence.steps[0, place])):
        if sequence.predictions[0, place, step] >= 0:
            sure = (
                np.nan
                if sequence.confidence is None
                else float(sequence.confidence[0, place, step])
            )
            text = visible(sequence.answer_text(int(sequence.predictions[0, place, step])))
            said.append(
                f"{text} at step {step + 1}" + ("" if np.isnan(sure) else f" ({percent(sure)})")
            )
    return ["would have said " + ", ".join(said)] if said else []
