"""Video models on a frozen CLIP: `create_model` is the one way to build them."""

from vidprompt.models.factory import METHODS, create_model

__all__ = ["METHODS", "create_model"]
