"""What the programs share: the table of works, the workers, the figures, the results."""
