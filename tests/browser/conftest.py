"""One browser for all tests in this folder: two of them can't be driven at the same time.

And the host and the page that several modules look at.
"""

import functools
import gzip
import http.server
import pathlib
import threading

import pytest
from browsing import CHROMIUM, book_of_one_page, opened


@pytest.fixture(scope="session")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


class Packing(http.server.SimpleHTTPRequestHandler):
    """Sends text packed, as hosts of pages do, and says nothing of it."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        path = pathlib.Path(self.translate_path(self.path))
        if path.suffix not in (".html", ".css", ".js", ".json", ".svg") or not path.is_file():
            super().do_GET()
            return
        content = gzip.compress(path.read_bytes())
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture(scope="session")
def served(html, tmp_path_factory):
    """The address of the book below a sub-path of a plain host."""
    root = tmp_path_factory.mktemp("host")
    (root / "courses").mkdir()
    (root / "courses" / "resnets").symlink_to(html)
    handler = functools.partial(Packing, directory=root)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/courses/resnets"
        running.shutdown()


@pytest.fixture(scope="session")
def classifier_address(tmp_path_factory):
    """A book with one page, that of the classifier."""
    import classifier_data
    import classifying

    try:
        classifier_data.collect()
    except classifier_data.Missing as missing:
        pytest.skip(str(missing))
    return book_of_one_page(tmp_path_factory, "classifier", classifying.texts())


@pytest.fixture
def page(chromium, classifier_address):
    """The classifier, its network loaded. Modules on other pages have a fixture of their own."""
    import classifying

    with opened(chromium, classifier_address) as page:
        classifying.load(page)
        yield page
