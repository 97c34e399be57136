"""The clinician's workbench: worklist, images with the findings drawn on them, the draft, its editing and signing."""
