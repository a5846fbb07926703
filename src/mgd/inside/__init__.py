"""Looking inside a network that is never edited: where to tap it, and what a tap reads."""
