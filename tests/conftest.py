"""Fixtures that several test files share."""

import pytest
from toys import make_images


@pytest.fixture
def toy():
    return make_images()


@pytest.fixture
def toy_val():
    return make_images(20, seed=1, split="val")
