"""How a run goes on: the training loop, and the parts that watch, measure and save it."""
