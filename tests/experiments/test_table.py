"""The table of results: grouping by seed, notes, the study's rows, escaping, refusals."""

import json
import re
import statistics
import sys

import fake_run
import pytest

from r23d_jax import config as configs
from r23d_jax import table
from r23d_jax.errors import UserError
from r23d_jax.experiments import table as result_table
from r23d_jax.report.table_page import Cell, ResultTable, markdown, page

CLASSES = ("Archery", "Bowling", "Diving")


def run(path, seed=0, overrides=(), config="rows:5", **results):
    """A workdir with results and the config it says it was run with."""
    loaded = configs.load(config, [*overrides, f"seed={seed}"])
    fields = {
        "arch": loaded.arch,
        "input": "rgb",
        "width": loaded.model.width,
        "seed": seed,
        "init": loaded.init_from or "scratch",
    } | results
    fake_run.write(path, fake_run.predictions(CLASSES, per_class=4, seed=seed), **fields)
    claim = json.loads((path / "config.json").read_text())
    claim["config"] = json.loads(json.dumps(configs.flatten(loaded)))
    (path / "config.json").write_text(json.dumps(claim))
    return path


def read(*paths):
    return result_table.grouped(result_table.read_run_result(path) for path in paths)


def two_stream(folder, rgb, flow, **results):
    parts = [json.loads((path / "results.json").read_text()) for path in (rgb, flow)]
    names = ("input", "arch", "width", "init", "seed", "protocol", "step", "top1")
    streams = [
        {"stream": name, "from": f"../{path.name}", **{key: part[key] for key in names}}
        for name, path, part in zip(("rgb", "flow"), (rgb, flow), parts, strict=True)
    ]
    fake_run.write(folder, fake_run.predictions(CLASSES, per_class=4, seed=9), arch="a + b", streams=streams, **results)
    (folder / "config.json").unlink()
    return folder


def of(made, column):
    """The texts of a column."""
    return [row[list(made.header).index(column)].text for row in made.rows]


def test_seeds_are_one_line_and_other_differences_are_not(tmp_path):
    seeds = [run(tmp_path / f"s{seed}", seed) for seed in (2, 0, 1)]
    other = run(tmp_path / "other", 3, ["lr=0.5"])
    again = run(tmp_path / "again", 1)  # the same seed a second time is no further seed
    elsewhere = run(tmp_path / "elsewhere", 4, ["dataset.data_dir=/mnt", "workers=7"])
    made = result_table.plain(read(*seeds, other, again, elsewhere))
    scores = [100 * json.loads((path / "results.json").read_text())["top1"] for path in (*seeds, elsewhere)]
    assert of(made, "Seeds") == ["4 (0, 1, 2, 4)", "1 (3)", "1 (1)"]
    assert of(made, "Top-1 %")[0] == f"{statistics.fmean(scores):.1f} ± {statistics.stdev(scores):.1f}"
    assert of(made, "Videos") == ["12/12"] * 3 and of(made, "Commit")[0] == "012345678"
    assert "± is the deviation over 4 seeds" in made.notes


def test_every_number_has_its_protocol_and_equal_ones_share_a_note(tmp_path):
    paths = [
        run(tmp_path / "a"),
        run(tmp_path / "b", overrides=["lr=0.5"]),
        run(tmp_path / "c", protocol="another way; float32"),
    ]
    made = result_table.plain(read(*paths))
    column = list(made.header).index("Top-1 %")
    assert [made.numbers(row[column]) for row in made.rows] == [[1], [1], [2]]
    assert made.notes == [fake_run.PROTOCOL, "another way; float32"]


def test_all_splits_say_what_their_spread_is(tmp_path):
    run(tmp_path / "all" / "split1")
    path = run(tmp_path / "all", split="all", spread={"top1": 0.0321, "mean_class": 0.01})
    made = result_table.plain(read(path))
    assert of(made, "Top-1 %")[0].endswith(" ± 3.2") and "± is the deviation over the splits" in made.notes
    assert result_table.read_run_result(path).configs[0]["lr"] == 0.01


def test_the_studys_rows_in_order_with_what_was_measured(tmp_path):
    small = ["model.width=16", "clip.frames=8", "clip.size=32", "clip.resize=36,48"]
    synthetic = "init_from=/data/synthetic-slim-inception_v1-imagenet-width16"
    rgb = run(tmp_path / "row2", 0, [*small, synthetic], "rows:2")
    flow = run(tmp_path / "row3", 0, [*small, synthetic], "rows:3", input="flow (tvl1)")
    both = two_stream(tmp_path / "row4", rgb, flow)
    five = run(tmp_path / "row5", 0, small)
    made = result_table.study(read(both, five, flow, rgb))
    assert of(made, "Row") == [str(number) for number in range(1, 12)]
    assert of(made, "Study, UCF101 %")[:5] == ["67.5", "72.5", "65.3", "75.7", "75.7"]
    measured = of(made, "Top-1 %")
    assert [number for number, text in enumerate(measured, 1) if text != "not measured"] == [2, 3, 4, 5]
    assert of(made, "Network")[3] == "i3d, width 16 instead of 64 (both)"
    assert of(made, "Start")[1] == "synthetic-slim-inception_v1-imagenet-width16"
    assert not any("/data/" in cell.text for row in made.rows for cell in row)
    notes = "\n".join(made.notes)
    assert "random numbers under the published file's tensor names" in notes
    assert "clip.frames=8 (64), clip.resize=[36, 48] (256), clip.size=32 (224), model.width=16 (64)" in notes
    top1 = list(made.header).index("Top-1 %")
    assert all(fake_run.PROTOCOL in row[top1].notes for row in made.rows[1:5])
    # Every figure of the study comes with what is to be known of it.
    study = list(made.header).index("Study, UCF101 %")
    remarks = [row[study].notes[0] for row in made.rows]
    assert all("Kinetics-400, not UCF101's" in remarks[number - 1] for number in (1, 2, 3, 4, 6, 7, 8, 9, 10))
    assert "no source" in remarks[4] and "not published" in remarks[10]


def test_two_results_of_a_row_are_two_lines_of_it_and_others_are_refused(tmp_path):
    a, b = run(tmp_path / "a"), run(tmp_path / "b", overrides=["lr=0.5"], step=7)
    made = result_table.study(read(a, b))
    assert of(made, "Row") == ["1", "2", "3", "4", "5", "5", "6", "7", "8", "9", "10", "11"]
    assert of(made, "Steps")[4:6] == ["0", "7"]
    odd = run(tmp_path / "odd", arch="mc3_18")
    with pytest.raises(UserError, match="odd.*a result of no row"):
        result_table.study(read(odd))


def test_names_are_text_in_both_formats(tmp_path):
    evil = "<script>alert(1)</script>|x\n| y"
    made = result_table.plain(read(run(tmp_path / "a", dataset=evil, protocol=evil)))
    text, html = markdown(made), page(made)
    assert "<script" not in text and "<script" not in html and "&lt;script&gt;" in html
    line = next(line for line in text.splitlines() if "alert" in line)
    assert len(re.findall(r"(?<!\\)\|", line)) == len(made.header) + 1


def test_both_formats_hold_the_same(tmp_path):
    made = ResultTable("T", ("A", "B"), [[Cell("x"), Cell("1.5", ("why", ""))]], ["B"], ["B"])
    assert markdown(made) == "## T\n\n| A | B |\n| --- | ---: |\n| x | 1.5 [1] |\n\n1. why\n"
    html = page(made)
    assert 'href="#note1"' in html and 'id="note1"' in html and 'data-label="B"' in html
    assert "http" not in html.replace("http-equiv", "")  # nothing is loaded


def test_the_command_writes_both_files(tmp_path, monkeypatch, capsys):
    path = run(tmp_path / "a")
    arguments = [path, path / "results.json", "--study", "--out", tmp_path / "t.md", "--html", tmp_path / "t.html"]
    monkeypatch.setattr(sys, "argv", ["table", *map(str, arguments)])
    assert table.main() == 0
    text = (tmp_path / "t.md").read_text()
    assert "| 1 (0) |" in text and text.count("not measured") == 10  # the same file twice is one result
    assert (tmp_path / "t.html").read_text().startswith("<!DOCTYPE html>")
    assert capsys.readouterr().out.split() == [str(tmp_path / "t.md"), str(tmp_path / "t.html")]


def test_mistakes_are_one_line(tmp_path, monkeypatch):
    half = run(tmp_path / "b", videos_expected=99)
    (tmp_path / "c").mkdir()
    (tmp_path / "bad.json").write_text('{"top1": "high"}')
    for arguments, words in (
        ([tmp_path / "c"], "no such file"),
        ([tmp_path / "bad.json"], "not readable as results"),
        ([half], "only 12 of 99 videos"),
        ([], "name results"),
    ):
        monkeypatch.setattr(sys, "argv", ["table", *map(str, arguments)])
        with pytest.raises(UserError, match=words) as error:
            table.main()
        assert "\n" not in str(error.value)
