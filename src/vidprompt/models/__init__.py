"""Video models on a frozen CLIP: `create_model` is the one way to build them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidprompt.models.factory import METHODS, create_model

__all__ = ["METHODS", "create_model"]


def __getattr__(name: str) -> Any:
    """METHODS and create_model, imported when used: a checkpoint's metadata is read without torch."""
    if name in __all__:
        from vidprompt.models import factory

        return getattr(factory, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
