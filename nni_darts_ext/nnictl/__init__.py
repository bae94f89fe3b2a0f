"""What the package offers beside a search: tools for ``nnictl`` and for the installation that it runs in."""
