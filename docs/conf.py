"""Sphinx configuration: python -m sphinx -W --keep-going -b html docs docs/_build/html."""

import os
import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from api_page import api_page, group_of
from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.util import logging

import convexnn

project = "convexnn"
author = "The convexnn developers"
copyright = author
release = version = convexnn.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "myst_parser",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "gallery", "_templates"]
templates_path = ["_templates"]
html_theme = "pydata_sphinx_theme"
html_title = f"convexnn {release}"
html_static_path = ["_static"]
html_css_files = ["convexnn.css"]
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": True,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
pygments_style = "sphinx"
# Quotation marks in the types of parameters are Python.
smartquotes = False
add_module_names = False

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3

autosummary_generate = True
# Not every file system tells it from convexnn.Audit.
autosummary_filename_map = {"convexnn.audit": "convexnn.audit_function"}
autodoc_member_order = "bysource"
autodoc_typehints = "none"
numpydoc_show_class_members = False

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "auto_gallery",
    "backreferences_dir": "api/backreferences",
    "doc_module": ("convexnn",),
    "within_subsection_order": "ExampleTitleSortKey",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,
    "remove_config_comments": True,
    "plot_gallery": True,
}


def write_api_page(app, config):
    """The API page lists what is public now; a public name without a group is a warning, which -W makes an error."""
    modules = {name: getattr(convexnn, name).__module__ for name in convexnn.__all__}
    for name, module in modules.items():
        if group_of(module) is None:
            logging.getLogger(__name__).warning(
                "convexnn.%s is in no group of the API page: add its module %s to GROUPS in docs/api_page.py",
                name,
                module,
            )
    path = Path(app.srcdir, "api", "index.rst")
    path.parent.mkdir(exist_ok=True)
    text = api_page(modules)
    # An unchanged page is not built again.
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def plain_text(app, what, name, obj, options, lines):
    """Docstrings are plain text in which |v| is a length and no substitution; scikit-learn's refer to its own site."""
    foreign = str(getattr(obj, "__module__", "")).startswith("sklearn.")
    for k, line in enumerate(lines):
        if foreign:
            lines[k] = re.sub(r":ref:`([^`<]*)(<[^>]*>)?`", r"\1", line)
        elif not line.lstrip().startswith((">>>", "...")):
            bullet, line = re.match(r"(\s*\* )?(.*)", line).groups(default="")
            parts = re.split(r"(``.*?``)", line)
            parts[::2] = [re.sub(r"([|*])", r"\\\1", part) for part in parts[::2]]
            lines[k] = bullet + "".join(parts)


def skip_metadata_routing(app, what, name, obj, skip, options):
    """Methods that scikit-learn adds to every estimator for metadata routing."""
    return True if str(getattr(obj, "__module__", "")).startswith("sklearn.utils") else None


def link_outside(app, docname, source):
    """Links to files outside docs/, such as tables of benchmarks, become links to a copy of the file."""
    folder = Path(app.srcdir, docname).parent

    def replace(match):
        target = (folder / match[1]).resolve()
        return match[0] if target.is_relative_to(app.srcdir) else f"](path:{match[1]})"

    source[0] = re.sub(r"\]\((\.\./[^)#]+)\)", replace, source[0])


class CommandHelp(Directive):
    """What ``convexnn COMMAND --help`` prints."""

    required_arguments = 1

    def run(self):
        command = [sys.executable, "-m", "convexnn", self.arguments[0], "--help"]
        text = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "100"})
        return [nodes.literal_block(text.stdout, text.stdout, language="text")]


def setup(app):
    app.add_directive("command-help", CommandHelp)
    app.connect("config-inited", write_api_page)
    # Before numpydoc reads the lines.
    app.connect("autodoc-process-docstring", plain_text, priority=400)
    app.connect("autodoc-skip-member", skip_metadata_routing)
    app.connect("source-read", link_outside)
