"""The engine: one loop for base training and distillation, on Lightning Fabric."""
