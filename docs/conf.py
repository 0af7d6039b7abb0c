"""How `make docs` turns this folder into pages: the documents as they are, and a reference read from the docstrings."""

from __future__ import annotations

import importlib.metadata

project = "azbatchwrap"
release = importlib.metadata.version(project)
author = "The azbatchwrap authors"
html_show_copyright = False
extensions = ["myst_parser", "sphinx.ext.autodoc"]

#: `Name` in a docstring is a name of the reference, where there is such a one.
default_role = "py:obj"
add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {
    "members": True,
    "show-inheritance": True,
    # What the standard library's own classes have is in its documentation.
    "inherited-members": "Exception,Future,Executor,Enum,StrEnum,str,int,tuple",
}

#: Headings down to this level can be linked to, under the names that GitHub gives them.
myst_heading_anchors = 4
myst_enable_extensions = ["html_image"]
#: Pygments knows no CSV; the block is shown as it is.
suppress_warnings = ["misc.highlighting_failure"]
html_theme = "alabaster"
html_theme_options = {"description": "Batch work on Azure from Python in ten lines", "page_width": "70rem"}
html_static_path: list[str] = []
html_copy_source = False
