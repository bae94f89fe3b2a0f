"""What the package offers ``nnictl``: a tuner, an assessor, their registration, the ranking of what they found, a doctor."""
