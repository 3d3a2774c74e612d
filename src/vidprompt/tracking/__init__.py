"""A training's run in an experiment tracker. Nothing of this folder enters a file that a stage writes."""
