"""How the documentation is built: ``sphinx-build -W docs docs/_build``."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from sphinx.util.inspect import signature, stringify_signature  # noqa: E402

from nni_darts_ext import __version__  # noqa: E402

project = 'nni_darts_ext'
release = version = __version__
extensions = ['myst_parser', 'numpydoc', 'sphinx.ext.autodoc', 'sphinx.ext.mathjax', 'sphinx.ext.viewcode']
exclude_patterns = ['_build']

autodoc_mock_imports = ['nni', 'pytorch_lightning']  # no environment has all of its families
autodoc_inherit_docstrings = False  # PyTorch's and NNI's are theirs
autodoc_member_order = 'bysource'
autodoc_preserve_defaults = True
numpydoc_show_class_members = False

nitpicky = True  # a reference that leads nowhere is a defect, unless it leads to another package
nitpick_ignore_regex = [
    ('py:.*', r'(torch|nni|nn|pytorch_lightning|argparse|datetime|os|pathlib|types)\..*|Dataset|Module|ModuleType|Path|Tensor'),
    ('py:.*', r'nni_darts_ext.*\.[A-Z]|[A-Z]\w*Error|(decisions.)?Architecture|Metrics|files.Path|PathLike|'
             'Compile|Data|ForwardBatch|MetricsFunction|Name|Version')]
# the last: type variables, short names, aliases

myst_enable_extensions = ['dollarmath']
myst_heading_anchors = 3
html_theme = 'alabaster'
html_theme_options = {'page_width': '1300px', 'code_font_size': '0.8em', 'fixed_sidebar': True}
maximum_signature_line_length = 100


def signature_of_a_class(app, what, name, documented, options, found, returns):
    """What the constructor takes, which a mocked base class hides."""
    if what == 'class' and found == '(*args: Any, **kwargs: Any)':
        return stringify_signature(signature(documented.__init__, bound_method=True), show_return_annotation=False,
                                   unqualified_typehints=True), returns
    return None


def skipped(app, what, name, documented, skip, options):
    """Fields of a NamedTuple of which the docstring says nothing: its signature names them."""
    return True if (getattr(documented, '__doc__', None) or '').startswith('Alias for field number') else None


def setup(app):
    app.connect('autodoc-process-signature', signature_of_a_class)
    app.connect('autodoc-skip-member', skipped)
