"""How the packaged weights are made: seeded recipes that anyone with the data can run again."""
