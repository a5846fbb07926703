"""The formulas of the method: functions of tensors, without networks, one formula per module."""
