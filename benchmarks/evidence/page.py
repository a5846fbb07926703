"""Later."""


def write_page(rows, matrix):
    """Later."""
