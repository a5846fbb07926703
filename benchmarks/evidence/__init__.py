"""Evidence: the runs that compare methods, their results, and the pages about them."""
