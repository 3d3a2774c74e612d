"""Look at a result video by video in FiftyOne: `vidprompt inspect`."""
