"""What a run is: options, their ranges, and the checks that concern several of them."""
