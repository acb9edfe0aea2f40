"""From photographs to patches."""
