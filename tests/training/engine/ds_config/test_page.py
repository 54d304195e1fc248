"""docs/ds_config.md against the table that decides."""

from tools.ds_config_page import PAGE, page
from training.engine.ds_config.keys import TABLE


def test_the_page_has_todays_table():
    text = PAGE.read_text(encoding="utf-8")
    assert page(text) == text, "write it anew: python -m tools.ds_config_page"
    assert all(f"`{key.name}`" in text for key in TABLE.values())
