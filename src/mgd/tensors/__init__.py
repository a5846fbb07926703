"""Tensors in, tensors out: the formulas of the method, one idea a file, without networks."""
