"""How the bundled models were made: seeded, on generated text, on one CPU thread.

`python -m reference_app.training sentiment|answer|summarize|all` trains, `… evaluate` measures what
lies in `reference_app/bundled` and writes the figures into the model cards.
"""
