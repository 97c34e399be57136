"""The program: pipeline, settings, command line, results and the three ways in."""
