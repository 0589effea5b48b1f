"""What depends on where the book lives: repository and Colab buttons, and the site's address.

The repository is ``repository.url`` in ``_config.yml`` or the variable ``BOOK_REPOSITORY``, with
``BOOK_BRANCH``; the address of the rendered book is the variable ``BOOK_URL``. While they are
unknown, nothing points to them.
"""

import os
from urllib.parse import urlsplit

COLAB = "https://colab.research.google.com"
WITH_COLAB = "To run one in Colab, press the rocket at the top of its page."
WITHOUT_COLAB = "To take one with you, press the download button at the top of its page."


def add_buttons(app, config):
    """Buttons for the repository, for reporting a mistake, and for Colab where it can read it."""
    options = config.html_theme_options
    address = os.environ.get("BOOK_REPOSITORY", options.get("repository_url") or "").rstrip("/")
    branch = os.environ.get("BOOK_BRANCH") or options.get("repository_branch") or "main"
    known = bool(address)
    on_github = urlsplit(address).hostname == "github.com"
    options |= {
        "repository_url": address,
        "repository_branch": branch,
        "use_repository_button": known,
        "use_issues_button": known,
        "launch_buttons": {"colab_url": COLAB} if on_github else {},
    }
    config.myst_substitutions["colab"] = WITH_COLAB if on_github else WITHOUT_COLAB


def set_address(app, config):
    """Links that must be absolute: for search engines, shared links' pictures, the 404 page."""
    address = os.environ.get("BOOK_URL", "").rstrip("/")
    if address:
        config.html_baseurl = config.ogp_site_url = f"{address}/"
        config.ogp_social_cards = {"enable": True}  # their addresses must be whole
        config.notfound_urls_prefix = f"{urlsplit(address).path}/"


def setup(app):
    app.connect("config-inited", add_buttons)
    app.connect("config-inited", set_address)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
