"""`bench --suite`: many cases, planned first as data, measured group by group, kept when the run stops."""
