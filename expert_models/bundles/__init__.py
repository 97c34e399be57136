"""MONAI bundles as experts: what one may hold, how it runs, and the shelf where those that were added are kept."""
