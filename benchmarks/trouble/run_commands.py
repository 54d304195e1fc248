"""What is asked of a run, and which of its files that needs."""

from benchmarks.trouble.material import SMALL

NEWEST = "checkpoints/update-000020"
WEIGHTS = ("final/model.safetensors", f"{NEWEST}/model.safetensors")
COMMANDS: dict[str, tuple[str, ...]] = {
    "show": ("show", "runs/base", "--width", "80"),
    "show a page": ("show", "runs/base", "--html", "page.html"),
    "show fresh": ("show", "runs/base", "--split", "test"),
    "eval": ("eval", "runs/base"),
    "eval a checkpoint": ("eval", "runs/base@20"),
    "compare": ("compare", "runs/base", "runs/base@10", "--examples", "4"),
    "export": ("export", "runs/base", "--output", "out"),
    "resume": ("train", "--resume", "runs/base", "--updates", "22"),
    "start from": ("train", *SMALL, "--start-from", "runs/base", "--dry-run"),
    "show again": ("show", "--split", "test"),
    "report": (
        "report",
        "runs/base",
        "--examples",
        "8",
        "--points",
        "2",
        "--repeats",
        "1",
        "--exit",
        "fixed",
    ),
    "tune": ("tune", "--out", "runs/base"),
    "pareto": (
        "show",
        "runs/base",
        "--pareto",
        "runs/base/points.json",
        "--png",
        "x.png",
        "--no-measure",
    ),
}
"""What is asked of the run."""
READS: dict[str, tuple[str, ...]] = {
    "show": ("ponder_map",),
    "show a page": ("ponder_map", "growth"),
    "show fresh": ("config.json", WEIGHTS[0]),
    "eval": ("config.json", WEIGHTS[0]),
    "eval a checkpoint": ("config.json", WEIGHTS[1]),
    "compare": ("config.json", WEIGHTS[0], "checkpoints/update-000010/model.safetensors"),
    "export": ("config.json", WEIGHTS[0]),
    "resume": ("config.json", NEWEST),
    "start from": ("config.json", WEIGHTS[0]),
    "show again": ("config.json", WEIGHTS[0]),
    "report": ("config.json", WEIGHTS[0], "metrics.jsonl"),
}
"""What these need of a run: the beginnings of paths. What they don't may be damaged."""
