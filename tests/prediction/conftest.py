"""The Hub of the tests."""

from tests.hub.running_hub import hub

__all__ = ["hub"]
