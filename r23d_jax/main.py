"""`python -m r23d_jax.main --config configs/r23d.py --workdir DIR [--mode train|eval] [--config.key=value ...]`"""

import argparse
import statistics
import sys
from pathlib import Path

from r23d_jax import config as configs
from r23d_jax.errors import Parser, UserError, run_command
from r23d_jax.files import write_json

_SCORES = ("top1", "top5", "mean_class", "clip_top1", "top1_logit_mean")


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The flags, and the `key=value` overrides."""
    parser = Parser(prog="python -m r23d_jax.main", description=__doc__.strip("`"))
    parser.add_argument("--config", required=True, help="a config file, or the name of one of configs/")
    parser.add_argument("--workdir", required=True, type=Path, help="where the run lives; the same one resumes")
    parser.add_argument("--mode", choices=("train", "eval"), default="train")
    parser.add_argument("--which", choices=("best", "last", "init"), default="last", help="what to evaluate: a "
                        "checkpoint, or the weights of config.init_from")  # fmt: skip
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    overrides, rest = [], []
    arguments = iter(argv)
    for argument in arguments:
        if argument.startswith("--config."):
            key = argument.removeprefix("--config.")
            overrides.append(key if "=" in key else f"{key}={next(arguments, '')}")
        else:
            rest.append(argument)
    return parser.parse_args(rest), overrides


def main() -> int:
    flags, overrides = parse(sys.argv[1:])
    config = configs.load(flags.config, overrides)
    if flags.workdir.exists() and not flags.workdir.is_dir():
        raise UserError(f"--workdir {flags.workdir}: is a file")

    from r23d_jax import compile_cache  # after the flags: it imports JAX
    from r23d_jax.interrupt import EXIT_STATUS, Interrupted

    compile_cache.enable()
    try:
        if config.dataset.split != "all":
            results = _run(config, flags, flags.workdir)
        else:
            results = _run_all(config, flags)
    except Interrupted as interrupted:
        print(f"interrupted: {interrupted}", file=sys.stderr)
        return EXIT_STATUS
    print(
        f"top1 {results['top1']:.4f}, mean class {results['mean_class']:.4f}, "
        f"{results['videos_evaluated']}/{results['videos_expected']} videos; {results['protocol']}"
    )
    print(flags.workdir / "results.json")
    return 0


def _run(config, flags, workdir: Path) -> dict:
    from r23d_jax import score, train

    if flags.mode == "eval":
        return score.evaluate_only(config, workdir, flags.which)
    return train.train_and_evaluate(config, workdir)


def _run_all(config, flags) -> dict:
    """The three splits one after another, and their mean and spread (standard deviation of the three)."""
    from r23d_jax import report
    from r23d_jax.data import records

    if (flags.workdir / "checkpoints").exists():
        raise UserError(f"{flags.workdir}: holds a run on one split; use a new workdir for dataset.split=all")
    dataset = records.VideoDataset.open(config.dataset.data_dir, config.dataset.name)
    for split in ("1", "2", "3"):  # before the first of three long runs
        dataset.subset(split, "train"), dataset.subset(split, "test")
    parts = []
    for split in ("1", "2", "3"):
        one = config.copy_and_resolve_references()
        one.dataset.split = split
        parts.append(_run(one, flags, flags.workdir / f"split{split}"))
    results = {**parts[-1], "split": "all"}
    results |= {name: statistics.fmean(part[name] for part in parts) for name in _SCORES}
    results["spread"] = {name: statistics.stdev(part[name] for part in parts) for name in _SCORES}
    results["splits"] = [{name: part[name] for name in ("split", "videos_evaluated", *_SCORES)} for part in parts]
    for name in ("videos_expected", "videos_evaluated"):
        results[name] = sum(part[name] for part in parts)
    results["protocol"] = "mean of splits 1, 2 and 3; each: " + parts[0]["protocol"].replace(
        "test videos of split 1", "test videos of the split"
    )
    write_json(flags.workdir / "results.json", results)
    report.write(flags.workdir)
    return results


if __name__ == "__main__":
    run_command(main)
