"""The Hub of the tests, and the registry's project."""

from tests.hub.running_hub import hub
from tests.registry.conftest import made_project, project

__all__ = ["hub", "made_project", "project"]
