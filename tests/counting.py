"""Counts of work, for promises about speed: the same on every machine, however busy."""

import sys

from torch.utils.flop_counter import FlopCounterMode


def operations(call):
    """Returns how many instructions of Python's a call executes; C code counts for nothing."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def flops(call):
    """Returns how many floating-point operations products and convolutions of a call take."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()
