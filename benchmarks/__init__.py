"""Benchmarks: programs that measure time, memory and accuracy, and write the pages about them."""
