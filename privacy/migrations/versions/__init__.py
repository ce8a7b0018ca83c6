"""One file per revision. What stands here is history: it never changes with the schema."""
