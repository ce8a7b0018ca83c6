"""A whole federation in one process: public data, a population, and a Flower grid."""
