"""The published implementations' checkpoints and numbers: import, export, parity."""

from vidprompt.published.checkpoints import export_published, import_published

__all__ = ["export_published", "import_published"]
