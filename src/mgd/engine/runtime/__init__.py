"""Where a run happens: devices, processes, precision, signals."""
