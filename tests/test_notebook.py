"""docs/motion.ipynb: compiles, carries no outputs, and runs from top to bottom."""

import ast
import os

import nbformat
import pytest
from paths import ROOT

NOTEBOOK = ROOT / "docs" / "motion.ipynb"


def test_the_notebook_is_clean_and_compiles():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) >= 8
    for cell in cells:
        ast.parse(cell.source)  # no shell or magic lines: plain Python
        assert cell.outputs == [] and cell.execution_count is None


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path):
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    environment = {**os.environ, "R23D_NOTEBOOK_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    client = NotebookClient(notebook, timeout=1500, resources={"metadata": {"path": str(ROOT)}})
    client.execute(env=environment)
    pictures = [
        output.data
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {}) or "image/gif" in output.get("data", {})
    ]
    assert len(pictures) == 5  # the clips, the curves, the confusion matrix, the annotated video, the maps
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
