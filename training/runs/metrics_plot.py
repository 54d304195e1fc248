"""The curves of a run in one picture."""

import io
from typing import TYPE_CHECKING

from halting.errors import UsageError
from training.runs.metric_arrays import MetricArrays

if TYPE_CHECKING:  # matplotlib is slow to import, so it is imported only once a picture is drawn
    from matplotlib.figure import Figure

CURVES = ("loss", "accuracy", "mean_steps", "penalty")
_KINDS = {"train": "training", "evaluation": "unseen examples"}


def plot_metrics(metrics: MetricArrays, names: tuple[str, ...], title: str) -> "Figure":
    """One panel a name: each update in a thin line, each evaluation as a point.

    Drawn without pyplot, so from any thread and without a window; a notebook shows the figure that
    a cell ends with.

    Args:
        metrics: of a run.
        names: of the panels, such as loss and mean_steps; those of training, of evaluation or both.
        title: above all.

    Raises:
        UsageError: for a name that was not measured.
    """
    from matplotlib.figure import Figure

    class MetricsFigure(Figure):
        """A figure that notebooks show also where no backend has told them how."""

        def _repr_png_(self) -> bytes:
            png = io.BytesIO()
            self.savefig(png, format="png", bbox_inches="tight")
            return png.getvalue()

    known = {name.partition("/")[2] for name in metrics if name.partition("/")[0] in _KINDS}
    for name in names:
        if name not in known - {"update"}:
            raise UsageError(
                f"There is no curve {name}.",
                f"Measured were {', '.join(sorted(known - {'update'})) or 'none yet'}.",
                "Write some of these.",
            )
    figure = MetricsFigure(figsize=(3.4 * len(names), 2.8), layout="constrained")
    figure.suptitle(title)
    for place, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), place + 1)
        for kind, label in _KINDS.items():
            if f"{kind}/{name}" in metrics:
                axes.plot(
                    metrics[f"{kind}/update"],
                    metrics[f"{kind}/{name}"],
                    linewidth=1 if kind == "train" else 2,
                    alpha=0.6 if kind == "train" else 1,
                    marker=None if kind == "train" else "o",
                    markersize=4,
                    label=label,
                )
        axes.set_title(name.replace("_", " "))
        axes.set_xlabel("update")
        axes.legend(frameon=False, fontsize="small")
    return figure
