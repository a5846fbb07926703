"""Model cards: what a run's student is, in a file beside its weights that people read."""

from mgd.engine.card.facts import facts_of
from mgd.engine.card.text import card_text
from mgd.engine.card.writing import card_of_file, is_card, write_card

__all__ = ["card_of_file", "card_text", "facts_of", "is_card", "write_card"]
