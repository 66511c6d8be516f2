"""A table of results, every number with how it came about; and the eleven rows of the study."""

import dataclasses
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from r23d_jax.errors import UserError
from r23d_jax.evaluation.results import read_results as read_results
from r23d_jax.experiments import rows
from r23d_jax.report.table_page import Cell, Notes, ResultTable
from r23d_jax.runtime.files import read_json

_NEEDED = ("dataset", "split", "protocol", "arch", "init", "top1", "mean_class", "videos_expected", "videos_evaluated")


_HEADER = (
    "Network",
    "Input",
    "Start",
    "Data set",
    "Split",
    "Top-1 %",
    "Mean class %",
    "Seeds",
    "Videos",
    "Steps",
    "Commit",
)


_STUDY_HEADER = (*_HEADER[5:7], *_HEADER[:5], *_HEADER[7:])  # our figure beside the study's


_NONE = "not measured"


@dataclasses.dataclass(frozen=True)
class RunResult:
    """One `results.json`, and what the run beside it says of itself.

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
        """The seed; of a two-stream result both, where they differ."""
        if "seed" in self.fields or "streams" not in self.fields:
            return str(self.fields.get("seed", "?"))
        return " + ".join(str(stream.get("seed", "?")) for stream in self.fields["streams"])

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
    run = path.parent / "split1" if fields["split"] == "all" else path.parent
    folders = [run / stream.get("from", "unknown") for stream in fields.get("streams", ())]
    return RunResult(path, fields, _configs(folders or [run]))


def _configs(folders: Iterable[Path]) -> list[dict[str, Any]]:
    found = []
    for folder in folders:
        try:
            found.append(read_json(folder / "config.json")["config"])
        except (OSError, ValueError, KeyError, TypeError):
            return []  # a results.json by itself, which is enough for a line
    return found


def grouped(results: Iterable[RunResult]) -> list[list[RunResult]]:
    """Results that differ in nothing but the seed together, in the order of the first of each."""
    groups: dict[str, list[RunResult]] = {}
    for result in results:
        key = _all_but_seed(result)
        number = 0  # the same seed twice is not another seed
        while any(other.seed == result.seed for other in groups.get(f"{key}{number}", ())):
            number += 1
        groups.setdefault(f"{key}{number}", []).append(result)
    return [sorted(group, key=lambda result: result.seed) for group in groups.values()]


def _all_but_seed(result: RunResult) -> str:
    names = ("dataset", "input", "split", "protocol", "arch", "width", "init", "step", "videos_expected")
    parts = [{name: part.get(name) for name in names} for part in (result.fields, *result.parts)]
    ignored = ("seed", *rows.WITHOUT_EFFECT)
    learned = [{key: value for key, value in one.items() if not key.startswith(ignored)} for one in result.configs]
    return json.dumps([parts, learned], sort_keys=True)


def cells(group: Sequence[RunResult], notes: Notes, *remarks: str) -> dict[str, Cell]:
    """A line of the table, by the names of its columns.

    Args:
      group: results of one line.
      notes: get the protocol, and what else is to be known.
      remarks: more notes, for the number.
    """
    fields, parts = group[0].fields, group[0].parts
    by_seeds = len(group) > 1
    over = f"± is the deviation over {len(group)} seeds" if by_seeds else ""
    over = "± is the deviation over the three splits" if not by_seeds and "spread" in fields else over
    how = [over, fields["protocol"], *remarks]
    starts = [part.get("init", "unknown") for part in parts]
    return {
        "Network": Cell(_both(_network(part) for part in parts)),
        "Input": Cell(fields.get("input", "")),
        "Start": notes.cell(_both(_start(init) for init in starts), *map(_synthetic, dict.fromkeys(starts))),
        "Data set": Cell(fields["dataset"]),
        "Split": Cell(fields["split"]),
        "Top-1 %": notes.cell(_score(group, "top1"), *how),
        "Mean class %": notes.cell(_score(group, "mean_class"), over, fields["protocol"]),
        "Seeds": Cell(_seeds(group)),
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


def _seeds(group: Sequence[RunResult]) -> str:
    seeds = ", ".join(result.seed for result in group)
    return f"{len(group)} ({seeds})"


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
    if not name.startswith("synthetic"):
        return ""
    return f"{name}: random numbers under the published file's tensor names, not trained weights"


def _commit(text: str) -> str:
    commit, _, changed = text.partition("+")
    return commit[:9] + ("+" if changed else "") or "unknown"


def plain(groups: Sequence[Sequence[RunResult]]) -> ResultTable:
    """One line for each group."""
    notes = Notes()
    lines = [cells(group, notes) for group in groups]
    return ResultTable(
        "Results", _HEADER, [[line[name] for name in _HEADER] for line in lines], notes.texts, (5, 6, 9), 5
    )


def study(groups: Sequence[Sequence[RunResult]], named: Mapping[int, Sequence[RunResult]]) -> ResultTable:
    """The study's eleven rows, with its figures and the published ones beside ours.

    Args:
      groups: results to be matched with rows by network, input and initial weights.
      named: results that the user said are a row's.

    Raises:
      UserError: more than one group fits a row, or one fits none.
    """
    chosen = {number: grouped(results) for number, results in named.items()}
    taken = {result.path.resolve() for results in named.values() for result in results}
    groups = [group for group in groups if not any(result.path.resolve() in taken for result in group)]
    lost = [group[0].path for group in groups if not any(rows.fits(row.number, group[0].fields) for row in rows.STUDY)]
    if lost:
        raise UserError(f"{lost[0]}: a result of no row of the study; leave it out, or say --row N={lost[0]}")
    notes, lines = Notes(), []
    for row in rows.STUDY:
        fitting = chosen.get(row.number) or [group for group in groups if rows.fits(row.number, group[0].fields)]
        if len(fitting) > 1:
            there = ", ".join(str(group[0].path.parent) for group in fitting)
            raise UserError(
                f"row {row.number}: {len(fitting)} results fit it ({there}), which are not seeds of one run; say "
                f"which is meant with --row {row.number}={fitting[0][0].path.parent}"
            )
        lines.append(_study_line(row, fitting[0] if fitting else None, notes))
    header = ("Row", "Method", "Pre-trained", "Study, UCF101 %", "Published, UCF101 %", *_STUDY_HEADER)
    return ResultTable("The study's table, and what was measured", header, lines, notes.texts, (3, 4, 5, 6, 13), 5)


def _study_line(row: rows.StudyRow, group: Sequence[RunResult] | None, notes: Notes) -> list[Cell]:
    line = [
        Cell(str(row.number)),
        Cell(row.method),
        Cell(row.pretrained),
        notes.cell(row.study, row.remark),
        notes.cell(row.published or "none", row.source),
    ]
    if group is None:
        return line + [Cell(_NONE if name == "Top-1 %" else "") for name in _STUDY_HEADER]
    ours = cells(group, notes, _other_than_row(row, group[0]))
    return line + [ours[name] for name in _STUDY_HEADER]


def _other_than_row(row: rows.StudyRow, result: RunResult) -> str:
    """What sets the run apart from configs/rows.py, as a note; that it is no UCF101 figure shows in the data set."""
    if not result.configs:
        return "how it was trained is not beside its results.json"
    found = {}
    for stream, config in enumerate(result.configs):
        found |= rows.differences(config, row.number, stream)
    found.pop("init_from", None)  # has a column
    if not found:
        return ""
    return "not the row as configs/rows.py has it, but " + ", ".join(
        f"{key}={_value(run)} ({_value(own)})" for key, (run, own) in found.items()
    )


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return f"{value:.4g}" if isinstance(value, float) else str(value) or "none"
