"""How a training starts: ranks, run folder, engine; and how it ends."""

import contextlib
import io
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from halting.errors import UsageError
from training.build import Built, build_all, penalty_text
from training.checkpoints import checkpoint
from training.checkpoints.progress import Progress
from training.checkpoints.random_state import seed_rank
from training.config import code_trust
from training.config.absolute_paths import with_absolute_paths
from training.config.code_trust import files_of
from training.config.device import check_gpu
from training.config.precision import check_precision
from training.config.run_config import RunConfig
from training.console import startup_sign
from training.console.command_text import command_text
from training.console.entry import in_three_parts
from training.console.screen import standard_screen
from training.distributed import collectives
from training.distributed import process_group as launch
from training.distributed.doctor.compiling import check_can_compile
from training.distributed.fingerprint import facts
from training.distributed.launch_command import check_command
from training.distributed.members import Members
from training.distributed.stop_request import Standing, of_this_program
from training.engine.ds_config import adopt, check_with_deepspeed, deepspeed_settings
from training.engine.engine import Engine
from training.engine.local import LocalEngine
from training.engine.monitors import Monitors, check_installed
from training.engine.optimizer import check_machine
from training.engine.threads import threads_for
from training.loop.doubts import doubts
from training.loop.loop import Training
from training.loop.outcome import TrainingOutcome
from training.loop.remedies import deeper_flags
from training.runs import folder as run_folder
from training.runs import shape as run_shape
from training.runs.beginning import check_batch_shares, check_data
from training.runs.context import TrainingContext
from training.runs.data_file import read_data, write_data
from training.runs.finish import finish
from training.runs.loaded import load_run
from training.runs.metrics import Metrics, failed_write
from training.runs.resume import check_resumable, resume_point
from training.runs.run_path import RunPath
from training.runs.start_from import read_start


@dataclass(frozen=True)
class EndedTraining:
    """A training that has ended, one way or another.

    Args:
        folder: the run folder.
        device: where it trained.
        outcome: how it ended.
    """

    folder: Path
    device: torch.device
    outcome: TrainingOutcome


def train(
    config: RunConfig,
    resume: str | Path | None = None,
    finishing: Callable[[TrainingContext], object] = finish,
    allow_changed_data: bool = False,
) -> int:
    """Trains a config, or goes on with a run; gives the exit code: 1 for a run that was lost or has
    collapsed, else 0. See `train_run`."""
    ended = train_run(config, resume, finishing, allow_changed_data=allow_changed_data)
    return int(ended.outcome.failed)


def train_run(
    config: RunConfig,
    resume: str | Path | None = None,
    finishing: Callable[[TrainingContext], object] = finish,
    stop: threading.Event | None = None,
    allow_changed_data: bool = False,
) -> EndedTraining:
    """Trains a config, or goes on with a run, and says on the screen how it goes.

    Args:
        config: the run.
        resume: the run to go on with: RUN, from its newest whole checkpoint, or RUN@500 or
            RUN@best, from that one.
        finishing: what is done with a run that has come to its end.
        stop: asks to stop when it is set, as a signal does.
        allow_changed_data: a run may go on with other files than it was trained on.

    Raises:
        UsageError: for what cannot be, before anything is trained.
    """
    request = of_this_program(stop)
    check_command(
        request.launcher.words, int(os.environ.get("WORLD_SIZE", "1")), torch.cuda.is_available()
    )
    adopted = adopt(config, int(os.environ.get("WORLD_SIZE", "1")))
    config = adopted.config
    _check_ranks(config)
    if config.loop.compiled:
        check_can_compile()
    run_path = None if resume is None else RunPath.parse(resume)
    if run_path is not None:
        check_resumable(run_path)
    startup_sign.doing("building the model")
    as_given = config
    config = with_absolute_paths(config)
    kept_data = None if run_path is None else read_data(run_path.home, allow_changed_data)
    built = build_all(config, kept_data)
    code_trust.remember([path for spec in config.named_code() for path in files_of(spec)])
    identity = built.task.identity()
    if run_path is not None:
        check_data(run_path, built.task, allow_changed_data)
    built.objective.prepare(built.task, load_run)
    # A run that goes on has its weights in its own checkpoint.
    start = (
        read_start(config, built.model, built.task)
        if config.start_from is not None and resume is None
        else None
    )
    if config.loop.compiled:
        built.model.compile_parts()
    if (threads := config.launch.threads or threads_for(built.model)) is not None:
        torch.set_num_threads(threads)
    library_log = io.StringIO()  # whatever ends this process, nothing stays in a temporary folder
    startup_sign.doing("loading the engine, and meeting the other ranks")
    # Paths as given: the same files may lie elsewhere on another machine.
    device, members = _start(as_given, facts(as_given, identity), library_log)
    with _told_who_is_gone(members):
        screen = standard_screen(collectives.rank(), config.launch.quiet)
        for line in adopted.says:
            screen.say(line)
        check_precision(config.precision, device, config.launch.deepspeed_config is not None)
        if config.launch.deepspeed_config is not None:
            check_with_deepspeed(config)
        # Conflicts are refused before a folder is made.
        settings = (
            deepspeed_settings(config, collectives.world_size())
            if config.launch.deepspeed_config is not None
            else None
        )
        startup_sign.doing("loading the optimizer, whose kernel may have to be compiled")
        check_machine(config.optimizer, device, settings)
        if config.report_to:
            check_installed(config.report_to)
        resumed = None if run_path is None else run_path.home
        with run_folder.writing_into(config, resumed, device, screen) as (folder, lock):
            kept = resume_point(run_path, screen) if run_path is not None else None
            _keep_library_log(library_log, folder)
            startup_sign.end()
            screen.say(_header(config, built, device, folder))
            if (says := built.task.says()) is not None:
                screen.say(says)
            for warning in (*built.task.warnings(), *doubts(config, built.task, built.cost)):
                screen.warn(warning)
            if start is not None:
                start.load_into(built.model)
                screen.say(start.says())
            with _told_what_cannot_be_written(folder):
                engine = _engine(config, built, device, settings)
                seed_rank(config.seed, collectives.rank())
                progress = checkpoint.load(kept, engine) if kept is not None else Progress()
                progress = replace(progress, data=None if identity is None else identity.digest)
                if members is not None:
                    members.train_in(folder)
                reports = [Monitors(config.report_to, folder).write] if config.report_to else []
                own = folder if collectives.rank() == 0 else None
                metrics = Metrics(own, progress.update, reports, screen.warn)
                if collectives.rank() == 0:  # late: what cannot start leaves a run as it was
                    _write_config(config, folder, kept)
                    resumed_at = None if kept is None else kept.name
                    write_data(folder, config.data.kind, built.task, resumed_at)
                outcome = _run(
                    TrainingContext(
                        config, built, engine, folder, metrics, screen, progress, request, lock
                    ),
                    finishing,
                )
            engine.close()
    launch.stop()
    return EndedTraining(folder, device, outcome)


@contextlib.contextmanager
def _told_what_cannot_be_written(folder: Path) -> Iterator[None]:
    """Within this, a file of the run folder that cannot be written is named in three parts."""
    try:
        yield
    except OSError as error:
        if folder in Path(error.filename or "").parents:
            raise failed_write(folder, Path(error.filename), error) from error
        raise


@contextlib.contextmanager
def _told_who_is_gone(members: Members | None) -> Iterator[None]:
    """What a collective raises when a rank dies says which connection broke; within this, the rank
    is named instead."""
    if members is None:
        yield
        return
    members.watch()
    try:
        yield
    except (RuntimeError, OSError) as error:
        members.end_failed(error)
        raise
    finally:
        members.stop_watching()


def _run(
    context: TrainingContext, finishing: Callable[[TrainingContext], object]
) -> TrainingOutcome:
    """Trains, says how it ended, and does what is done at the end."""
    config = context.config
    screen = context.screen
    try:
        if context.progress.update:
            _say_resumed(context)
        outcome = Training(context).run()
        update = outcome.progress.update
        if outcome.reason == "lost":
            assert outcome.error is not None
            screen.say(in_three_parts(outcome.error), always=True)
        elif outcome.reason == "collapsed":
            screen.warn(f"training stopped: {outcome.says}")
            screen.say(
                "to begin again deeper, give the same command with "
                f"{deeper_flags(config, context.built.cost)}"
            )
        elif outcome.reason == "stopped":
            if (name := context.stop_request.signal_name) is not None:
                context.metrics.write("stopped", update, says=f"after {name}")
            screen.say(
                f"stopped {outcome.says}, saved at update {update} of {config.updates}\n"
                f"to go on: {command_text('ponder', 'train', '--resume', context.folder)}",
                always=True,
            )
        else:
            if outcome.reason == "limit":
                of = "" if config.limits.stretch_to == "limit" else f" of {config.updates}"
                screen.say(f"ended {outcome.says}, at update {update}{of}")
            context.stop_request.finishing(
                Standing(
                    "testing what was trained",
                    f"all {update} updates are saved; the test and the report are missing",
                    f"finish with {command_text('ponder', 'train', '--resume', context.folder)}",
                )
            )
            finishing(replace(context, progress=outcome.progress))
        return outcome
    finally:
        context.metrics.close()


def _say_resumed(context: TrainingContext) -> None:
    """Tells where a run goes on, and from what shape to what."""
    update = context.progress.update
    before = run_shape.written(checkpoint.folder_of(context.folder / "checkpoints", update))
    now = run_shape.here(context.engine)
    context.screen.say(
        f"going on after update {update}{f', from {before} to {now}' if before != now else ''}"
    )
    about = {
        "ranks": now.ranks,
        "stage": now.stage,
        "ranks_before": before.ranks,
        "stage_before": before.stage,
    }
    context.metrics.write("resumed", update, **about)


def _start(
    config: RunConfig, told: Mapping[str, str], library_log: io.StringIO
) -> tuple[torch.device, Members | None]:
    check_gpu(config.launch.device)
    if (
        config.launch.deepspeed_config is not None or config.report_to
    ):  # DeepSpeed's monitors want a world, be it of one
        limit = timedelta(minutes=config.launch.timeout)
        cpu = config.launch.device == "cpu"
        joined = launch.start(
            limit,
            cpu=cpu,
            library_log=library_log,
            facts=told,
            lost_after=config.launch.lost_after,
        )
        return joined.device, joined.members
    return torch.device(
        "cpu" if config.launch.device == "cpu" or not torch.cuda.is_available() else "cuda"
    ), None


def _engine(
    config: RunConfig, built: Built, device: torch.device, settings: dict[str, Any] | None
) -> Engine:
    if settings is None:
        return LocalEngine(built.model, config.optimizer, device, config.precision)
    from training.engine.zero import DeepSpeedEngine  # late: it needs what `launch.start` prepares

    return DeepSpeedEngine(built.model, config, settings=settings)


def _check_ranks(config: RunConfig) -> None:
    ranks = int(os.environ.get("WORLD_SIZE", "1")) if launch.under_launcher() else 1
    if ranks > 1 and config.launch.deepspeed_config is None:
        raise UsageError(
            f"{ranks} ranks were started without --deepspeed-config.",
            "Each would train a model of its own.",
            "Add --deepspeed-config ds_configs/zero1.json (ds_configs/README.md says which to "
            "choose), or start one process.",
        )
    check_batch_shares(config, ranks)


def _write_config(config: RunConfig, folder: Path, kept: Path | None) -> None:
    """Writes config.json; one that a resumed run replaces is kept beside."""
    path = folder / "config.json"
    beside = folder / ".config.json"
    if path.exists() and path.read_text(encoding="utf-8") != config.to_json() and kept is not None:
        shutil.copyfile(path, folder / f"config.before-{kept.name}.json")
    beside.write_text(config.to_json(), encoding="utf-8")
    beside.replace(path)


def _keep_library_log(library_log: io.StringIO, folder: Path) -> None:
    """Moves what was logged before there was a folder into its log.txt; from here on, all goes
    there."""
    log = folder / "log.txt"
    launch.redirect_library_logs(log)
    with log.open("a", encoding="utf-8", errors="replace") as out:
        out.write(library_log.getvalue())


def _header(config: RunConfig, built: Built, device: torch.device, folder: Path) -> str:
    parameters = sum(parameter.numel() for parameter in built.model.parameters())
    ranks = collectives.world_size()
    engine = (
        f"{ranks} ranks, {Path(config.launch.deepspeed_config).name}"
        if config.launch.deepspeed_config
        else "1 process"
    )
    parts = (
        folder,
        f"{config.data.kind.rpartition('/')[2]}, {parameters:,} "
        f"parameters{_learning(config, built)}",
        f"{config.halting.kind.rpartition('/')[2]}, at most {config.loop.max_steps} steps",
        penalty_text(config, built.cost),
        f"{device.type}, {engine}",
    )
    return " · ".join(map(str, parts))


def _learning(config: RunConfig, built: Built) -> str:
    learn = sum(
        parameter.numel() for parameter in built.model.parameters() if parameter.requires_grad
    )
    return f", of which {learn:,} learn" if config.train_only != "everything" else ""
