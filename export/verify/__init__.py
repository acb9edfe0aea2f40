"""The check that an exported file must pass before it is kept."""
