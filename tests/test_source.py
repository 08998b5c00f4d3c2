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
