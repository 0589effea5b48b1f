"""Fixtures that several test files share."""

import build_book
import pytest
from notebooks import ROOT
from toys import make_images


@pytest.fixture
def toy():
    return make_images()


@pytest.fixture
def toy_val():
    return make_images(20, seed=1, split="val")


@pytest.fixture(scope="session")
def html(tmp_path_factory):
    """The committed book, rendered without a known repository; a warning fails the build."""
    with pytest.MonkeyPatch.context() as patch:
        for name in build_book.ADDRESSES:
            patch.delenv(name, raising=False)
        patch.setenv("BOOK_REPOSITORY", "")
        return build_book.jupyter_book(ROOT, tmp_path_factory.mktemp("pages"))
