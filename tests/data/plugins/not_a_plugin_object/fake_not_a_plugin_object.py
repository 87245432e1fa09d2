"""Has no such attribute."""

plugin = None
