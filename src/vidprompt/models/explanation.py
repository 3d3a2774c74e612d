"""Placeholder."""


class Explanation: ...


def explain(model, frames, text): ...
