"""`ponder train`, `python -m training.train`, `deepspeed --module training.train`: one entry, one run folder."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch

from halting.errors import UsageError
from training.build import Built, build_all
from training.checkpoints import checkpoint
from training.checkpoints.checkpoint import Progress
from training.checkpoints.random_state import seed_rank
from training.config.flags import parse
from training.config.parts import load_recipe, recipe_names
from training.config.precision import refuse_precision
from training.config.run_config import RunConfig
from training.console.entry import in_three_parts, run_entry
from training.console.screen import Screen, standard_screen
from training.distributed import collectives, slurm
from training.distributed import process_group as launch
from training.distributed.fingerprint import facts
from training.distributed.launch_command import refuse_command
from training.distributed.launcher_watch import LauncherWatch
from training.distributed.members import Members, end_without
from training.doctor.compiling import refuse_without_compiler
from training.engine.ds_config import deepspeed_settings
from training.engine.engine import Engine
from training.engine.local import LocalEngine
from training.engine.monitors import Monitors, refuse_missing
from training.loop.loop import Training
from training.loop.remedies import deeper_flags
from training.ponder_penalty import described
from training.runs import folder as run_folder
from training.runs import shape as run_shape
from training.runs.finish import finish
from training.runs.loaded import read_config
from training.runs.metrics import Metrics
from training.runs.start_from import read_start
from training.runs.trained import Trained

_USAGE = """usage: ponder train RECIPE [flags]        train a recipe
       ponder train RECIPE --dry-run      parameters, FLOPs, memory per rank, conflicts; trains nothing (--ranks N)
       ponder train --resume RUN [flags]  go on with a run
       ponder train RECIPE --from-tune DIR --pick knee    the setting that a sweep found (ponder tune)
       ponder train RECIPE --help         every flag of a recipe

A recipe is a name ({recipes}) or your own: path/to/file.py:function."""


@dataclass(frozen=True)
class Request:
    """What the command line asks for, beside the config.

    Args:
        config: the run.
        resume: the run folder to go on with.
        dry_run: say what would happen, and train nothing.
        ranks: for how many ranks to say it.
    """

    config: RunConfig
    resume: Path | None
    dry_run: bool
    ranks: int


def main(argv: Sequence[str]) -> int:
    """Trains; gives the exit code: 0 for a run that ended as asked (also one stopped by a signal), 1 for a lost one."""
    slurm.adopt()
    rest = list(argv)
    if not rest or rest in (["-h"], ["--help"]):
        print(_USAGE.format(recipes=", ".join(recipe_names())))
        return 0
    request = read_request(rest)
    if request.dry_run:
        from training.resources import dry_run

        print(dry_run.report(request.config, request.ranks))
        return 0
    try:
        return train(request.config, request.resume)
    except UsageError:
        launch.stop()  # a rank that has met the others and does not leave them may end in an abort
        raise


def read_request(argv: Sequence[str]) -> Request:
    """The config and what to do with it.

    Raises:
        UsageError, SystemExit: for flags that cannot be; see `flags.parse`.
    """
    rest = [word for word in argv if word != "--deepspeed"]  # a habit of the launcher's users; the config says it all
    _take(rest, "--local-rank")  # the launcher puts it first; the environment says the same
    resume = _take(rest, "--resume")
    ranks = _take(rest, "--ranks")
    tuned, picked = _take(rest, "--from-tune"), _take(rest, "--pick")
    if (picked is not None and tuned is None) or (tuned is not None and resume is not None):
        raise UsageError(
            f"--pick {picked} comes without --from-tune." if tuned is None else f"--from-tune {tuned} with --resume.",
            "A point is picked from a sweep, and for a run that begins.",
            "Write ponder train RECIPE --from-tune DIR --pick knee.",
        )
    is_dry = "--dry-run" in rest or "--dry_run" in rest
    rest = [word for word in rest if word not in ("--dry-run", "--dry_run")]
    if ranks is not None and not (ranks.isdecimal() and int(ranks) > 0):
        raise UsageError(f"--ranks is {ranks}.", "It is a number of processes.", "Write --ranks 8.")
    if resume is not None:
        if rest and not rest[0].startswith("-"):
            raise UsageError(
                f"--resume {resume} comes with the recipe {rest[0]}.",
                "A run goes on with its own config.",
                f"Drop {rest[0]}, or drop --resume to start anew.",
            )
        config = read_config(Path(resume))
        config = parse(config, rest, f"ponder train --resume {resume}") if rest else config
    else:
        if not rest or rest[0].startswith("-"):
            raise UsageError(
                f"No recipe is named before {rest[0] if rest else 'the end'}.",
                "The recipe says what is trained; flags change it.",
                f"Write ponder train RECIPE [flags], with one of {', '.join(recipe_names())}, or your own "
                "file.py:function.",
            )
        words = [*_chosen(rest, tuned, picked), *rest[1:]] if tuned is not None else rest[1:]
        config = parse(load_recipe(rest[0]), words, f"ponder train {rest[0]}")
    here = collectives.world_size() if collectives.is_distributed() else int(os.environ.get("WORLD_SIZE", "1"))
    return Request(config, None if resume is None else Path(resume), is_dry, int(ranks or here))


def _chosen(rest: Sequence[str], tuned: str, picked: str | None) -> Sequence[str]:
    """The flags of a sweep's point."""
    from training.tuning.chosen import chosen  # late: a sweep's own trials come through here

    found = chosen(Path(tuned), picked or "knee", rest[0], rest[1:])
    standard_screen(0 if os.environ.get("RANK", "0") == "0" else 1).say(found.says)
    return found.words


def train(config: RunConfig, resume: Path | None = None, finishing: Callable[[Trained], object] = finish) -> int:
    """Trains a config, or goes on with a run; gives the exit code.

    Args:
        config: the run.
        resume: the run folder to go on with.
        finishing: what is done with a run that has come to its end.
    """
    launcher = LauncherWatch.of_this_process()
    refuse_command(launcher.words, int(os.environ.get("WORLD_SIZE", "1")), torch.cuda.is_available())
    _refuse_ranks(config)
    if config.loop.compiled:
        refuse_without_compiler()
    if resume is not None:
        _refuse_without_checkpoint(resume)
    built = build_all(config)
    # A run that goes on has its weights in its own checkpoint.
    start = read_start(config, built.model) if config.start_from is not None and resume is None else None
    if config.loop.compiled:
        built.model.compile_parts()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    chatter = Path(tempfile.mkdtemp(prefix="ponder-")) / "log.txt"
    device, members = _start(config, chatter)
    screen = standard_screen(collectives.rank())
    refuse_precision(config.precision, device, config.deepspeed_config is not None)
    if config.deepspeed_config is not None:
        deepspeed_settings(config, collectives.world_size())  # conflicts are refused before a folder is made
    if config.report_to:
        refuse_missing(config.report_to)
    kept = _newest_whole(resume, screen) if resume is not None else None
    folder = resume or run_folder.create(config, device)
    run_folder.refuse_unshared(folder)
    _keep_chatter(chatter, folder)
    if collectives.rank() == 0:
        _write_config(config, folder, kept)
    screen.say(_header(config, built, device, folder))
    if start is not None:
        start.load_into(built.model)
        screen.say(start.says())
    try:
        engine = _engine(config, built, device)
        seed_rank(config.seed, collectives.rank())
        progress = checkpoint.load(kept, engine) if kept is not None else Progress()
        if members is not None:
            members.watch(folder)
        code = _run(config, built, engine, folder, screen, progress, launcher, finishing)
    except (RuntimeError, OSError):
        # What a collective raises when a rank dies says which connection broke, and not who is gone.
        if members is not None and (gone := members.await_gone()):
            end_without(gone, folder)
        raise
    finally:
        if members is not None:
            members.stop_watching()
    engine.close()
    launch.stop()
    return code


def _run(
    config: RunConfig,
    built: Built,
    engine: Engine,
    folder: Path,
    screen: Screen,
    progress: Progress,
    launcher: LauncherWatch,
    finishing: Callable[[Trained], object],
) -> int:
    reports = [Monitors(config.report_to, folder).write] if config.report_to else []
    metrics = Metrics(folder if collectives.rank() == 0 else None, progress.update, reports)
    if progress.update:
        _say_resumed(engine, folder, screen, metrics, progress.update)
    try:
        ended = Training(config, built, engine, folder, metrics, screen, progress, launcher).run()
        if ended.reason == "lost":
            assert ended.error is not None
            screen.say(in_three_parts(ended.error))
            return 1
        if ended.reason == "collapsed":
            screen.warn(f"training stopped: {ended.says}")
            screen.say(f"to begin again deeper, give the same command with {deeper_flags(config, built.cost)}")
            return 1
        if ended.reason == "stopped":
            screen.say(
                f"stopped {ended.says}, saved at update {ended.progress.update} of {config.updates}\n"
                f"to go on: ponder train --resume {folder}"
            )
            return 0
        if ended.reason == "limit":
            of = "" if config.schedule == "limit" else f" of {config.updates}"
            screen.say(f"ended {ended.says}, at update {ended.progress.update}{of}")
        finishing(Trained(config, built, engine, folder, screen, metrics, ended.progress))
        return 0
    finally:
        metrics.close()


def _say_resumed(engine: Engine, folder: Path, screen: Screen, metrics: Metrics, update: int) -> None:
    """Tells where a run goes on, and from what shape to what."""
    before = run_shape.written(checkpoint.folder_of(folder / "checkpoints", update))
    now = run_shape.here(engine)
    screen.say(f"going on after update {update}{f', from {before} to {now}' if before != now else ''}")
    about = {"ranks": now.ranks, "stage": now.stage, "ranks_before": before.ranks, "stage_before": before.stage}
    metrics.write("resumed", update, **about)


def _start(config: RunConfig, chatter: Path) -> tuple[torch.device, Members | None]:
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda.", "torch sees no GPU here.", "Write --device cpu, or ask ponder doctor why.")
    if config.deepspeed_config is not None or config.report_to:  # DeepSpeed's monitors want a world, be it of one
        limit, cpu = timedelta(minutes=config.timeout), config.device == "cpu"
        joined = launch.start(limit, cpu=cpu, chatter=chatter, facts=facts(config), lost_after=config.lost_after)
        return joined.device, joined.members
    return torch.device("cpu" if config.device == "cpu" or not torch.cuda.is_available() else "cuda"), None


def _engine(config: RunConfig, built: Built, device: torch.device) -> Engine:
    if config.deepspeed_config is None:
        return LocalEngine(built.model, config.optimizer, device, config.precision)
    from training.engine.zero import DeepSpeedEngine  # late: it needs what `launch.start` prepares

    return DeepSpeedEngine(built.model, config)


def _refuse_ranks(config: RunConfig) -> None:
    ranks = int(os.environ.get("WORLD_SIZE", "1")) if launch.under_launcher() else 1
    if ranks > 1 and config.deepspeed_config is None:
        raise UsageError(
            f"{ranks} ranks were started without --deepspeed-config.",
            "Each would train a model of its own.",
            "Add --deepspeed-config ds_configs/zero1.json (ds_configs/README.md says which to choose), or start one "
            "process.",
        )
    if config.batch_size % (ranks * config.accumulation):
        whole = ranks * config.accumulation
        raise UsageError(
            f"--batch-size {config.batch_size} cannot be shared by {ranks} rank(s) with --accumulation "
            f"{config.accumulation}.",
            "Each takes an equal share of the examples of an update.",
            f"Write --batch-size {-(-config.batch_size // whole) * whole}.",
        )


def _refuse_without_checkpoint(resume: Path) -> None:
    if not checkpoint.found(resume / "checkpoints"):
        raise UsageError(
            f"{resume} holds no checkpoint.",
            "There is nothing to go on from; starting from scratch in silence would hide that.",
            "Start anew: ponder train RECIPE",
        )


def _newest_whole(resume: Path, screen: Screen) -> Path:
    """The checkpoint to go on from, on all ranks the same; damaged ones are named and passed over."""
    kept, wrong = checkpoint.newest_whole(resume / "checkpoints")
    if kept is None:
        raise UsageError(
            f"{resume} holds no whole checkpoint: {' | '.join(wrong)}.",
            "There is nothing to go on from; starting from scratch in silence would hide that.",
            "Bring the files back from a copy, or start anew: ponder train RECIPE",
        )
    for text in wrong:
        screen.warn(f"damaged, and passed over: {text}")
    return kept


def _write_config(config: RunConfig, folder: Path, kept: Path | None) -> None:
    """Writes config.json; one that a resumed run replaces is kept beside."""
    path, beside = folder / "config.json", folder / ".config.json"
    if path.exists() and path.read_text(encoding="utf-8") != config.to_json() and kept is not None:
        shutil.copyfile(path, folder / f"config.before-{kept.name}.json")
    beside.write_text(config.to_json(), encoding="utf-8")
    beside.replace(path)


def _keep_chatter(chatter: Path, folder: Path) -> None:
    """Moves what was logged before there was a folder into its log.txt; from here on, all goes there."""
    log = folder / "log.txt"
    if chatter.exists():
        with log.open("a", encoding="utf-8") as out:
            out.write(chatter.read_text(encoding="utf-8", errors="replace"))
    launch.chatter_to(log)
    shutil.rmtree(chatter.parent, ignore_errors=True)


def _header(config: RunConfig, built: Built, device: torch.device, folder: Path) -> str:
    parameters = sum(parameter.numel() for parameter in built.model.parameters())
    ranks = collectives.world_size()
    engine = f"{ranks} ranks, {Path(config.deepspeed_config).name}" if config.deepspeed_config else "1 process"
    parts = (
        folder,
        f"{config.data.kind.rpartition('/')[2]}, {parameters:,} parameters{_learning(config, built)}",
        f"{config.halting.kind.rpartition('/')[2]}, at most {config.loop.max_steps} steps",
        described(config, built.cost),
        f"{device.type}, {engine}",
    )
    return " · ".join(map(str, parts))


def _learning(config: RunConfig, built: Built) -> str:
    learn = sum(parameter.numel() for parameter in built.model.parameters() if parameter.requires_grad)
    return f", of which {learn:,} learn" if config.train_only != "everything" else ""


def _take(words: list[str], flag: str) -> str | None:
    """Removes `--flag VALUE` or `--flag=VALUE` from the words, dashes or underscores; gives the value."""
    for number, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name.replace("_", "-") == flag:
            if not equals and number + 1 == len(words):
                raise UsageError(f"{flag} has no value.", "It takes one.", f"Write {flag} VALUE.")
            taken = value if equals else words[number + 1]
            del words[number : number + (1 if equals else 2)]
            return taken
    return None


if __name__ == "__main__":
    sys.exit(run_entry(main, sys.argv[1:]))
