"""Training with dual regression, channel search, pruning and fine-tuning. Needs torch."""
