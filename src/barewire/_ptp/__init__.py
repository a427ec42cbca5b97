"""Precision Time Protocol (IEEE 1588-2019, as linuxptp has it): a site's plan, and how well its clocks do.

- `site`: what a site is made of, from a file. `tree`: who can follow whom, and why a plan cannot work. `linuxptp`: each
  machine's files. `drawing`: the tree as text and SVG.
"""

from __future__ import annotations

from .linuxptp import INSTALL, appliance_settings
from .site import Site, load_site
from .tree import Tree, plan

__all__ = ["INSTALL", "Site", "Tree", "appliance_settings", "load_site", "plan"]
