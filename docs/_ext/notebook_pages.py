"""Copies the notebooks to where Sphinx finds them.

Those that need a library which is not here are run by the environment of PyTorch (``make test-integrations`` makes it).
Without it they are shown without outputs, and say so.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_NEEDED = {
    "torch": "PyTorch",
    "mmseg": "MMSegmentation",
    "monai": "MONAI",
    "matplotlib": "Matplotlib",
    "ipywidgets": "ipywidgets",
}
_KERNEL = "conformask-torch"


def _imported(notebook: dict[str, Any]) -> list[str]:
    """Which of the libraries the notebook imports."""
    code = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code")
    imported = set(re.findall(r"^\s*(?:import|from)\s+(\w+)", code, re.MULTILINE))
    imported |= {"torch"} if "conformask.integrations.torch" in code else set()
    return [name for name in _NEEDED if name in imported]


def _in_torch_environment(python: Path) -> set[str]:
    """Which of the libraries another environment has; none if it cannot run notebooks."""
    ask = f"from importlib.util import find_spec; print(*filter(find_spec, {['ipykernel', *_NEEDED]}))"
    if not python.exists():
        return set()
    found = subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True).stdout.split()
    return {*found} if "ipykernel" in found else set()


def _add_kernel(python: Path, repository: Path) -> None:
    """Makes the environment known to Jupyter, for this build."""
    folder = repository / "target/docs-jupyter"
    kernel = folder / "kernels" / _KERNEL
    # A notebook finds the stand-in for what mmcv compiles where the tests have it.
    paths = [str(repository / "python"), str(repository / "tests/integrations")]
    kernel.mkdir(parents=True, exist_ok=True)
    specification = {
        "argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=ERROR"],
        "display_name": "Python 3 with PyTorch",
        "language": "python",
        # Threads that spin while they wait would slow the others down.
        "env": {"OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": os.pathsep.join(paths)},
    }
    (kernel / "kernel.json").write_text(json.dumps(specification), encoding="utf-8")
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [str(folder), os.environ.get("JUPYTER_PATH")]))


def copy_notebooks(app: Any, config: Any) -> None:
    repository, folder = Path(app.srcdir).parent, Path(app.srcdir) / "notebooks"
    python = Path(os.environ.get("TORCH_VENV", repository / ".venv-torch"), "bin/python").absolute()
    there = _in_torch_environment(python)
    if there:
        _add_kernel(python, repository)
    for source in sorted((repository / "notebooks").glob("*.ipynb")):
        notebook = json.loads(source.read_text(encoding="utf-8"))
        name, imported = source.name, _imported(notebook)
        missing = [_NEEDED[each] for each in imported if find_spec(each) is None]
        where = f"It is `notebooks/{name}` in the repository."
        if missing and there.issuperset(imported):
            notebook["metadata"]["kernelspec"]["name"] = _KERNEL
        elif missing:
            config.nb_execution_excludepatterns.append(f"notebooks/{name}")
            where = (
                f"This page was built without {' and '.join(missing)}, so the notebook is shown **without its "
                f"outputs**. Run `notebooks/{name}` in the repository to see them; `make test-notebooks` runs it."
            )
        note = {
            "cell_type": "markdown",
            "id": "where",
            "metadata": {},
            "source": f":::{{note}}\n{where}\n:::",
        }
        notebook["cells"].insert(1, note)
        text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
        if not (folder / name).exists() or (folder / name).read_text(encoding="utf-8") != text:
            (folder / name).write_text(text, encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    app.connect("config-inited", copy_notebooks)
    return {"parallel_read_safe": True}
