"""Sphinx settings of the documentation, which `make docs` builds into build/docs."""

import sys
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "widemax"
release = metadata.version("widemax")
project_copyright = "the authors of widemax; Apache-2.0"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "reference"]
exclude_patterns = ["images"]

# Every reference in a docstring must lead somewhere; `make docs` turns the warning into a failure.
nitpicky = True
smartquotes = False  # --debug keeps its hyphens
nitpick_ignore_regex = [("py:.*", r"(torch|numpy|sklearn|scipy|pydantic|typing|collections|abc|pathlib)\..*")]
myst_heading_anchors = 3
myst_enable_extensions = ["attrs_inline"]

# Types stand beside the meaning of an argument, with the range that configs hold them to.
autodoc_typehints = "none"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Use", "Source"]
add_module_names = False
maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = "widemax"
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
