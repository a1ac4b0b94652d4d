"""How Sphinx builds the site (``make docs``), without the network unless CONFORMASK_DOCS_ONLINE is set."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
REPOSITORY = HERE.parent
sys.path[:0] = [str(HERE / "_ext"), str(REPOSITORY / "python")]
os.environ.setdefault("CONFORMASK_DATA", str(REPOSITORY / "../shared/data"))
os.environ.setdefault("TQDM_DISABLE", "1")  # progress bars are for those who wait
os.environ["PYTHONPATH"] = str(REPOSITORY / "python")  # for the kernels of notebooks

from conformask import __version__  # noqa: E402

project = "conformask"
author = "the conformask developers"
copyright = f"2026, {author}"
release = version = __version__
language = "en"

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # MathJax lies beside the pages: formulas show without a network
    "numpydoc",
    "myst_nb",
    "sphinx_design",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "transparent_mocks",
    "api_pages",
    "notebook_pages",
    "reference_links",
    "short_names",
]
if os.environ.get("CONFORMASK_DOCS_ONLINE"):  # links into other documentation need their lists of names
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
        "matplotlib": ("https://matplotlib.org/stable", None),
    }

source_suffix = {".rst": "restructuredtext", ".md": "myst-nb", ".ipynb": "myst-nb"}
exclude_patterns = ["_build", "examples", "gallery/*.ipynb", "gallery/*.py", "**.ipynb_checkpoints"]
templates_path = ["_templates"]
default_role = "code"  # names of parameters stand between single backticks
smartquotes = False  # types of parameters hold quotes, and are no prose
nitpicky = True  # a link that leads nowhere is a warning, and a warning ends the build
nitpick_ignore_regex = [
    (r"py:mod", r"conformask\..*"),  # modules that the reference describes in the text of a section
    (
        r"py:obj",
        r"conformask\.reproduction\..*",
    ),  # the protocols behind the tables, documented in their sources
    (r"py:attr", r".*"),  # attributes stand in the list of their class, without an anchor each
    # What other libraries document: linked only where CONFORMASK_DOCS_ONLINE is set.
    (
        r"py:.*",
        r"(sklearn|scipy|numpy|np|matplotlib|json|torch|torchvision|dask|monai|mmseg|mmengine|ignite)(\..*)?",
    ),
]

# ---- the reference ------------------------------------------------------------------------------------------

autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_typehints = "none"  # docstrings say what goes in, with shapes and units
autodoc_preserve_defaults = True
autodoc_mock_imports = [
    name
    for name in ("torch", "torchvision", "monai", "ignite", "mmseg", "mmengine", "mmcv", "cv2")
    if find_spec(name) is None
]
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False  # the template of a class lists them
numpydoc_xref_param_type = False

# ---- prose, notebooks, gallery ------------------------------------------------------------------------------

myst_enable_extensions = ["attrs_block", "colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3
myst_links_external_new_tab = False
nb_execution_mode = "cache"
nb_execution_cache_path = str(REPOSITORY / "target/docs-notebooks")
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_excludepatterns = ["*.md"]
nb_merge_streams = True
nb_render_markdown_format = "myst"  # outputs may be tables

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/plot_",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
    "backreferences_dir": "gallery/backreferences",
    "thumbnail_size": (520, 340),
    "doc_module": ("conformask",),
    "reference_url": {"conformask": None},
    "prefer_full_module": {"conformask"},
    "matplotlib_animations": False,
    "abort_on_example_error": True,
    "capture_repr": ("_repr_html_",),
}

linkcheck_ignore = [
    r"https://doi\.org/.*",  # publishers refuse programs
]
linkcheck_timeout = 20

# ---- how it looks -------------------------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = "conformask"
html_static_path = ["_static"]
html_css_files = ["conformask.css"]
html_favicon = "_static/logo.svg"
html_copy_source = False
html_show_sourcelink = False
html_sidebars = {"index": [], "start": [], "gallery/index": [], "changelog": []}
html_context = {"default_mode": "auto"}
html_theme_options = {
    "logo": {"image_light": "_static/logo.svg", "image_dark": "_static/logo.svg", "text": "conformask"},
    "header_links_before_dropdown": 7,
    "navbar_align": "left",
    "navbar_persistent": [],
    "navbar_end": ["search-button", "theme-switcher"],
    "footer_start": ["copyright"],
    "footer_center": [],
    "footer_end": [],
    "show_prev_next": True,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "pygments_light_style": "a11y-light",
    "pygments_dark_style": "a11y-dark",
    "back_to_top_button": False,
}
