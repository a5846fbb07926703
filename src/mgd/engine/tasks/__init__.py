"""What a run computes in a step: training alone, or under a teacher, behind one interface."""
