"""Sphinx configuration. The pages are Markdown; build.py gathers them, writes the generated ones, and runs Sphinx."""

from importlib.metadata import version as _version

project = "barewire"
author = "The barewire authors"
copyright = "The barewire authors"
release = version = _version("barewire")

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["conf.py"]

html_theme = "furo"
html_title = f"barewire {release}"
html_copy_source = False
html_show_sphinx = False
pygments_style = "default"
