"""What a student is trained towards: matchings, targets, and the distiller around them."""
