import pytest

# Its assertions are ours: without this a failure would not show what differs.
pytest.register_assert_rewrite("tests.acceptance.stages")
