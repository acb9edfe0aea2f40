"""Other programs over the same networks, measured in the same run: what `bench --against` brings in."""
