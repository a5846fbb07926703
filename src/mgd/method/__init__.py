"""What a student is trained towards: matchings, targets, and the distiller that joins both networks."""
