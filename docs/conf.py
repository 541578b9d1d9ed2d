"""How Sphinx builds this documentation."""

from __future__ import annotations

from importlib.metadata import version as version_of

project = "trio-clockrt"
author = "The trio-clockrt authors"
copyright = "2026, the trio-clockrt authors"  # noqa: A001 (Sphinx wants this name)
version = release = version_of("trio-clockrt")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinxcontrib_trio",
    "myst_parser",
]
exclude_patterns = ["_build", "examples"]
default_role = "obj"
html_theme = "furo"
html_title = "trio-clockrt"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
myst_heading_anchors = 3
