from harness.docs.exports import PAGE, exports_page


def test_data_dictionary_is_what_the_code_says() -> None:
    assert PAGE.read_text() == exports_page(), "docs/exports.md is out of date: run make docs"
