"""Images and videos as tasks of Ray, on one machine or many: names of files travel, pixels do not."""
