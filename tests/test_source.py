from bncourse.source import show_source


def doubled(number):
    """Twice a number."""
    return 2 * number


def halved(number):
    return number / 2


def test_functions_are_shown_as_they_are_written():
    code = show_source(doubled, halved).data
    assert code == (
        '```python\ndef doubled(number):\n    """Twice a number."""\n    return 2 * number\n\n'
        "def halved(number):\n    return number / 2\n```"
    )


def described(number):
    """Returns the number.

    As it is.
    """
    return """number"""


def test_docstrings_may_be_left_out():
    code = show_source(described, halved, docstrings=False).data
    assert code == (
        '```python\ndef described(number):\n    return """number"""\n\ndef halved(number):\n    return number / 2\n```'
    )
