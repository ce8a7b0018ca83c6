"""Training: cohort, round, aggregation and release, as a Flower ServerApp."""
