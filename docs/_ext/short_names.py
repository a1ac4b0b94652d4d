"""Links by short names: ``See Also`` says `LTT`, and means `conformask.LTT`, wherever it stands."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from docutils import nodes
from sphinx.util.nodes import make_refnode

_AT_TOP = {"class", "function", "exception", "data"}


def _places(objects: Any, of_members: bool) -> dict[str, set[tuple[str, str]]]:
    """Where objects are described, by the last two parts of their names or the last one."""
    found: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for name, entry in objects.items():
        if of_members or entry.objtype in _AT_TOP:
            parts = name.split(".")
            for ending in (parts[-1], ".".join(parts[-2:])):
                found[ending].add((entry.docname, entry.node_id))  # second names lead to the same place
    return found


def resolve(app: Any, env: Any, node: Any, contnode: nodes.Element) -> nodes.Element | None:
    """The only described object of this name, rather a class or a function than a method; else None."""
    if node.get("refdomain") != "py":
        return None
    objects, target = env.get_domain("py").objects, str(node["reftarget"]).removesuffix("()")
    parts = target.split(".")
    is_ours = len(parts) == 1 or parts[0] == "conformask"
    endings = [".".join(parts[-2:]), *([parts[-1]] if is_ours else [])]
    for of_members in (False, True):
        places = _places(objects, of_members)
        for ending in endings:
            if len(places.get(ending, ())) == 1:
                docname, node_id = next(iter(places[ending]))
                return make_refnode(app.builder, node["refdoc"], docname, node_id, contnode, target)
    return None


def setup(app: Any) -> dict[str, bool]:
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True}
