"""What a training says as it goes: a row of figures an update, and a line on the screen."""

from training.checkpoints.progress import Progress
from training.config.run_config import RunConfig
from training.console.amounts import short_number
from training.console.screen import Screen, clock, evaluation_line, position
from training.engine.engine import Engine
from training.evaluation.step_losses import StepLosses
from training.evaluation.tally import Tally
from training.loop.run_limits import RunLimits
from training.loop.update import MetricsSinceEvaluation, Update
from training.runs.metrics import Metrics


class TrainingLog:
    """Writes what happens to the metrics and the screen, both silent on all ranks but the first.

    Args:
        config: the run.
        engine: whose loss scale is noted.
        limits: how far the run goes.
        metrics, screen: where figures go.
    """

    def __init__(
        self,
        config: RunConfig,
        engine: Engine,
        limits: RunLimits,
        metrics: Metrics,
        screen: Screen,
    ):
        self.config = config
        self.engine = engine
        self.limits = limits
        self.metrics = metrics
        self.screen = screen

    def warn(self, update: int, text: str) -> None:
        """A warning, kept in the metrics too."""
        self.metrics.write("warning", update, says=text)
        self.screen.warn(text)

    def update(
        self,
        progress: Progress,
        measured: Update,
        since: MetricsSinceEvaluation,
        *,
        penalty: float,
        rate: float,
        seconds: float,
        agreed_seconds: float,
    ) -> None:
        """One update.

        Args:
            progress: where the run stands after it.
            measured: what it measured.
            since: what happened since the last evaluation.
            penalty, rate: the coefficient and the learning rate that it used.
            seconds: that it took.
            agreed_seconds: trained so far, as the ranks agree.
        """
        self.metrics.write(
            "train",
            progress.update,
            loss=measured.loss,
            task_loss=measured.task_loss,
            ponder_cost=measured.ponder_cost,
            penalty=penalty,
            learning_rate=rate,
            gradient_norm=measured.gradient_norm,
            mean_steps=measured.mean_steps,
            mean_ponder=measured.mean_ponder,
            max_steps=measured.depth,
            tokens_per_second=measured.valid / max(seconds, 1e-9),
            skipped=progress.skipped,
            **(
                {}
                if measured.auxiliary_loss is None
                else {"auxiliary_loss": measured.auxiliary_loss}
            ),
            **({} if self.engine.loss_scale is None else {"loss_scale": self.engine.scale}),
        )
        if measured.skipped:
            self.screen.warn(
                f"update {progress.update} is skipped: loss {measured.loss:.4g}, gradient norm "
                f"{measured.gradient_norm:.4g}; {progress.skipped_in_a_row} in a row, and "
                f"{self.config.limits.max_skipped} stop the run"
            )
        line = (
            f"{self._position(progress, agreed_seconds)}  loss {measured.loss:.3f}  "
            f"steps {measured.mean_steps:.2f}  {short_number(since.tokens_per_second)} tok/s  "
            f"eta {clock(self._eta(progress, since, agreed_seconds))}"
        )
        every = self.config.launch.log_every
        if every is not None and progress.update % every == 0:
            self.screen.say(line)
        else:
            self.screen.progress(line)

    def evaluation(
        self,
        progress: Progress,
        tally: Tally,
        by_step: StepLosses | None,
        since: MetricsSinceEvaluation,
        agreed_seconds: float,
    ) -> None:
        """The figures of an evaluation."""
        figures = tally.figures()
        self.metrics.write(
            "evaluation",
            progress.update,
            **figures,
            **({} if by_step is None else by_step.figures()),
            steps_by_difficulty=tally.by_difficulty(),
        )
        self.screen.say(
            evaluation_line(
                self._position(progress, agreed_seconds),
                figures,
                tally.survival(),
                tally.max_steps,
                since.tokens_per_second,
                self._eta(progress, since, agreed_seconds),
            )
        )

    def _position(self, progress: Progress, agreed_seconds: float) -> str:
        done = self.limits.fraction(progress, agreed_seconds) if self.limits.stretched else None
        return position(progress.update, self.config.updates, done)

    def _eta(
        self, progress: Progress, since: MetricsSinceEvaluation, agreed_seconds: float
    ) -> float:
        """Seconds to go, by the speed since the last evaluation."""
        if not self.limits.stretched:
            left = self.config.updates - progress.update
            return left * since.seconds / max(1, since.updates)
        done = self.limits.fraction(progress, agreed_seconds)
        return progress.train_seconds * (1 - done) / max(done, 1e-9)
