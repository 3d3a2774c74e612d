"""Checkpoints of the published implementations: import, export, and parity of their numbers."""

from vidprompt.published.checkpoints import export_published, import_published

__all__ = ["export_published", "import_published"]
