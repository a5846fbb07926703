"""Evidence: a matrix of runs, what came out of them, and the page that says so."""
