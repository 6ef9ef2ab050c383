"""What a trained run is used for: one file for each use."""
