"""Copies the notebooks to where Sphinx finds them.

Those that need a library which is not here are shown without outputs, and say so.
"""

from __future__ import annotations

import json
import re
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


def _missing(notebook: dict[str, Any]) -> list[str]:
    """Libraries that the notebook imports and that are not here."""
    code = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code")
    imported = set(re.findall(r"^\s*(?:import|from)\s+(\w+)", code, re.MULTILINE))
    imported |= {"torch"} if "conformask.integrations.torch" in code else set()
    return [told for name, told in _NEEDED.items() if name in imported and find_spec(name) is None]


def copy_notebooks(app: Any, config: Any) -> None:
    folder = Path(app.srcdir) / "notebooks"
    for source in sorted((Path(app.srcdir).parent / "notebooks").glob("*.ipynb")):
        notebook = json.loads(source.read_text(encoding="utf-8"))
        name, missing = source.name, _missing(notebook)
        where = f"It is `notebooks/{name}` in the repository."
        if missing:
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
