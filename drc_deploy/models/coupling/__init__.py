"""Which channels of any network can be cut, and what goes with each: found by carrying ids through its traced graph."""
