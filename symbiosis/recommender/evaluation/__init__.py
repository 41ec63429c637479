"""The evaluation, its report and the table over data sets and seeds."""
