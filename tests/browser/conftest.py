"""One browser for all tests in this folder: two of them can't be driven at the same time.

And the page that several modules look at.
"""

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
