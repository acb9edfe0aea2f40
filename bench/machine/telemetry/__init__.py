"""Power, temperature, clocks and throttling, sampled during a run."""
