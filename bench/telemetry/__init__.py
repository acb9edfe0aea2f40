"""Power, temperature, clocks and throttling, sampled beside a run: what this machine tells, and what it does not."""
