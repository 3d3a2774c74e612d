"""The HTML page of a dataset: what it shows, its frames, and its templates."""
