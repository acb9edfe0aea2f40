"""Where tiles lie, how they run, and how they become one image."""
