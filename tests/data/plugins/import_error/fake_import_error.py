"""Its library is not installed."""

import a_library_that_does_not_exist.part  # noqa: F401
