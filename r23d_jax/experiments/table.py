"""A table of results, every number with its protocol; and the eleven rows of the study."""

import dataclasses
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from r23d_jax.errors import UserError
from r23d_jax.evaluation.results import read_results
from r23d_jax.experiments import rows
from r23d_jax.report.table_page import Cell, ResultTable
from r23d_jax.runtime.files import read_json

_NEEDED = ("dataset", "split", "protocol", "arch", "init", "top1", "mean_class", "videos_expected", "videos_evaluated")
_SETTING = ("Network", "Input", "Start", "Data set", "Split")
_SCORES = ("Top-1 %", "Mean class %")
_RUNS = ("Seeds", "Videos", "Steps", "Commit")
_STUDY = ("Row", "Method", "Pre-trained", "Study, UCF101 %", "Published, UCF101 %")
_NUMERIC = (*_STUDY[3:], *_SCORES, "Steps")


@dataclasses.dataclass(frozen=True)
class RunResult:
    """One `results.json` with the config of its run.

    Attributes:
      path: of the file.
      fields: its contents.
      configs: flat `config.json` of the run, or of both streams; [] where there is none.
    """

    path: Path
    fields: dict[str, Any]
    configs: list[dict[str, Any]]

    @property
    def seed(self) -> str:
        """The seed; of a two-stream result both."""
        if "seed" in self.fields:
            return str(self.fields["seed"])
        return " + ".join(str(part.get("seed", "?")) for part in self.parts)

    @property
    def parts(self) -> list[dict[str, Any]]:
        """The results of the single networks: itself, or its streams."""
        return self.fields.get("streams") or [self.fields]


def read_run_result(path: Path) -> RunResult:
    """Reads a `results.json`, or a workdir's.

    Raises:
      UserError: no such file, or not one of ours.
    """
    path = path / "results.json" if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"{path}: no such file; name workdirs of finished runs, or results.json files")
    fields = read_results(path, _NEEDED)
    if fields["videos_expected"] != fields["videos_evaluated"]:
        seen = f"{fields['videos_evaluated']} of {fields['videos_expected']}"
        raise UserError(f"{path}: only {seen} videos were evaluated, which is no result; evaluate again")
    run = min(path.parent.glob("split*"), default=path.parent) if fields["split"] == "all" else path.parent
    folders = [run / stream.get("from", "unknown") for stream in fields.get("streams", ())]
    return RunResult(path, fields, _configs(folders or [run]))


def _configs(folders: Iterable[Path]) -> list[dict[str, Any]]:
    try:
        return [read_json(folder / "config.json")["config"] for folder in folders]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # a results.json by itself is enough for a line


def grouped(results: Iterable[RunResult]) -> list[list[RunResult]]:
    """Returns the results in groups that differ in nothing but the seed, in the order of the first of each."""
    groups: dict[str, list[RunResult]] = {}
    for result in results:
        key = _all_but_seed(result)
        while any(other.seed == result.seed for other in groups.get(key, ())):
            key += "+"  # the same seed twice is not another seed
        groups.setdefault(key, []).append(result)
    return [sorted(group, key=lambda result: result.seed) for group in groups.values()]


def _all_but_seed(result: RunResult) -> str:
    names = ("dataset", "input", "split", "protocol", "arch", "width", "init", "step", "videos_expected")
    parts = [{name: part.get(name) for name in names} for part in (result.fields, *result.parts)]
    learned = [{key: one[key] for key in one if not key.startswith(rows.WITHOUT_EFFECT)} for one in result.configs]
    return json.dumps([parts, learned], sort_keys=True)


def cells(group: Sequence[RunResult], remark: str = "") -> dict[str, Cell]:
    """Returns one line of the table, by the names of its columns.

    Args:
      group: results that differ in nothing but the seed.
      remark: a further note for its top-1.
    """
    fields, parts = group[0].fields, group[0].parts
    spread = "spread" in fields and "± is the deviation over the splits"
    over = f"± is the deviation over {len(group)} seeds" if len(group) > 1 else spread or ""
    starts = [part.get("init", "unknown") for part in parts]
    seeds = ", ".join(result.seed for result in group)
    return {
        "Network": Cell(_both(_network(part) for part in parts)),
        "Input": Cell(fields.get("input", "")),
        "Start": Cell(_both(map(_start, starts)), tuple(map(_synthetic, starts))),
        "Data set": Cell(fields["dataset"]),
        "Split": Cell(fields["split"]),
        "Top-1 %": Cell(_score(group, "top1"), (over, fields["protocol"], remark)),
        "Mean class %": Cell(_score(group, "mean_class"), (over, fields["protocol"])),
        "Seeds": Cell(f"{len(group)} ({seeds})"),
        "Videos": Cell(f"{fields['videos_evaluated']}/{fields['videos_expected']}"),
        "Steps": Cell(" + ".join(str(part.get("step", "?")) for part in parts)),
        "Commit": Cell(", ".join(dict.fromkeys(_commit(result.fields.get("commit", "")) for result in group))),
    }


def _score(group: Sequence[RunResult], name: str) -> str:
    values = [100 * result.fields[name] for result in group]
    if len(values) > 1:
        return f"{statistics.fmean(values):.1f} ± {statistics.stdev(values):.1f}"
    spread = group[0].fields.get("spread", {}).get(name)
    return f"{values[0]:.1f}" + (f" ± {100 * spread:.1f}" if spread is not None else "")


def _both(texts: Iterable[str]) -> str:
    """Of one network, or of two streams."""
    texts = list(texts)
    return f"{texts[0]} (both)" if len(texts) > 1 and len(set(texts)) == 1 else " + ".join(texts)


def _network(part: Mapping[str, Any]) -> str:
    width = part.get("width", 64)
    return part.get("arch", "unknown") + (f", width {width} instead of 64" if width != 64 else "")


def _start(init: str) -> str:
    """Where training began, without the folders of somebody's machine."""
    return "nothing" if init == "scratch" else Path(init).name or init


def _synthetic(init: str) -> str:
    name = Path(init).name
    text = f"{name}: random numbers under the published file's tensor names, not trained weights"
    return text if name.startswith("synthetic") else ""


def _commit(text: str) -> str:
    commit, _, changed = text.partition("+")
    return commit[:9] + ("+" if changed else "") or "unknown"


def plain(groups: Iterable[Sequence[RunResult]]) -> ResultTable:
    """Returns a table of one line for each group."""
    header = (*_SETTING, *_SCORES, *_RUNS)
    lines = [[line[name] for name in header] for line in map(cells, groups)]
    return ResultTable("Results", header, lines, _NUMERIC, _SCORES[:1])


def study(groups: Iterable[Sequence[RunResult]]) -> ResultTable:
    """Returns the study's eleven rows, with its figures and the published ones beside ours.

    A row has a line for each group that belongs to it, and one that says "not measured" where there is none.

    Raises:
      UserError: a result belongs to no row.
    """
    ours: dict[int, list[dict[str, Cell]]] = {}
    for group in groups:
        number = rows.row_of(group[0].fields)
        if number is None:
            raise UserError(
                f"{group[0].path}: a result of no row of the study, by network, input and name of the initial weights "
                "(configs/rows.py); leave it out"
            )
        ours.setdefault(number, []).append(cells(group, _unlike_row(number, group[0])))
    header = (*_SCORES, *_SETTING, *_RUNS)
    lines = [
        [
            Cell(str(row.number)),
            Cell(row.method),
            Cell(row.pretrained),
            Cell(row.study, (row.remark,)),
            Cell(row.published or "none", (row.source,)),
            *(line.get(name, Cell("")) for name in header),
        ]
        for row in rows.STUDY
        for line in ours.get(row.number, [{"Top-1 %": Cell("not measured")}])
    ]
    title = "The study's table, and what was measured"
    return ResultTable(title, (*_STUDY, *header), lines, _NUMERIC, _SCORES[:1])


def _unlike_row(number: int, result: RunResult) -> str:
    """What sets a run apart from configs/rows.py, as a note; data set and start have columns of their own."""
    if not result.configs:
        return "how it was trained is not beside its results.json"
    found: dict[str, Any] = {}
    for stream, config in enumerate(result.configs):
        found |= rows.differences(config, number, stream)
    shown = [f"{key}={run!r} ({own!r})" for key, (run, own) in found.items() if key != "init_from"]
    return f"not the row as configs/rows.py has it, but {', '.join(shown)}" if shown else ""
